"""The layers of an engine out of what its builder says at the end of a build, one line a layer.

The inspector needs a GPU, this list does not.  Every version has a form of its own: TensorRT up to 10.x has
parameters, `Weights: {...}` and tactics between `Outputs` and `Metadata`, TensorRT-RTX `Constants` before
`Outputs`.  Keys that are not known are passed over; a line that is not understood is kept as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.backends.tensorrt.layers import (
    BIAS,
    PROFILE,
    WEIGHTS,
    EngineLayer,
    EngineTensor,
    count_of,
    dtype_of,
    nodes_of,
    part_of_layer,
)
from harness.backends.tensorrt.log import LAYERS

# TensorRT 8 lists layers so: `Layer(CaskConvolution): conv, Tactic: 0x1, x[Half(1,3)] -> r[Half(1,8)]`.
OLD_LINE = re.compile(
    r"Layer\((?P<type>\w+)\): (?P<name>.*), Tactic: (?P<tactic>-?\w+), (?P<inputs>.*?) ?-> (?P<outputs>.*)$"
)
OLD_TENSOR = re.compile(r"(?P<name>.+?)\[(?P<dtype>\w+)\((?P<dims>[-\d,:]*)\)\](?:, |$)")
# What follows the layers: inputs and outputs, by their name in any version.
END = re.compile(r"^(?:I/O Tensors|Bindings|Engine Metadata):", re.M)
# A list ends with a brace and a bracket: names and dimensions have brackets of their own.
TENSORS = r"\[(?:(?P<{0}> \{{ Name: .*?) ?\}})?\]"
LINE = re.compile(
    rf"Name: (?P<name>.*?), LayerType: (?P<type>.*?), Inputs: {TENSORS.format('inputs')}, "
    rf"(?:Constants: {TENSORS.format('constants')}, )?Outputs: {TENSORS.format('outputs')}(?P<rest>|, .*)$"
)
METADATA = re.compile(r", Metadata: ?(?P<metadata>.*)$")
TACTIC = re.compile(r", TacticName: (?P<tactic>.*?)(?=, [A-Z]\w*: |$)")
VALUE = re.compile(r", TacticValue: (?P<tactic>\w+)")
PART = re.compile(rf", (?P<key>{WEIGHTS}|{BIAS}): (?P<part>\{{[^}}]*\}})")
TENSOR = re.compile(
    r" ?\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<dims>[^]]*)\](?P<rest>.*)$"
)
TYPE = re.compile(r", (?:Format/)?Datatype: (?P<dtype>.*?)(?=, [A-Z]\w*: |$)")
FORMAT = re.compile(r", Format: (?P<format>.*?)(?=, [A-Z]\w*: |$)")


@dataclass(frozen=True)
class Listed:
    """Layers that a builder listed; `unread`: its lines in no known form, each one a layer lost."""

    layers: tuple[EngineLayer, ...]
    unread: tuple[str, ...] = ()


def layers_from_dump(text: str, barred: Sequence[str] = ()) -> Listed:
    """Layers out of the builder's message that starts with one of LAYERS, those of the first profile.

    `barred`: names of ONNX nodes that hold a bar.
    """
    start = next((head for head in LAYERS if text.startswith(head)), "")
    body = END.split(text.removeprefix(start), maxsplit=1)[0]
    lines = [line for line in body.split("\n") if line.strip()]
    read = [(line, _from_line(line, barred) or _from_old_line(line)) for line in lines]
    return Listed(
        tuple(layer for _, layer in read if layer is not None and not PROFILE.search(layer.name)),
        tuple(line for line, layer in read if layer is None),
    )


def _from_line(line: str, barred: Sequence[str]) -> EngineLayer | None:
    found = LINE.match(line)
    if found is None:
        return None
    try:
        inputs, outputs, constants = (
            tuple(_tensors(found[key])) for key in ("inputs", "outputs", "constants")
        )
        rest = found["rest"]
        parts = (part for match in PART.finditer(rest) for part in _part(match))
        metadata = METADATA.search(rest)
        return EngineLayer(
            found["name"],
            found["type"],
            _tactic(METADATA.sub("", rest)),
            nodes_of(metadata["metadata"], barred) if metadata else (),
            inputs,
            outputs,
            (*constants, *parts),
        )
    except ValueError:
        return None


def _from_old_line(line: str) -> EngineLayer | None:
    found = OLD_LINE.match(line)
    if found is None:
        return None
    inputs, outputs = (tuple(_old_tensors(found[key])) for key in ("inputs", "outputs"))
    return EngineLayer(found["name"], found["type"], found["tactic"], (), inputs, outputs)


def _old_tensors(text: str) -> Iterator[EngineTensor]:
    for found in OLD_TENSOR.finditer(text):
        sizes = [int(size) for size in found["dims"].split(",") if size.lstrip("-").isdigit()]
        yield EngineTensor(found["name"], dtype_of(found["dtype"]), found["dtype"], count_of(sizes))


def _tactic(rest: str) -> str:
    found = TACTIC.search(rest) or VALUE.search(rest)
    return found["tactic"] if found else ""


def _part(match: re.Match[str]) -> Iterator[EngineTensor]:
    return part_of_layer(match["key"], json.loads(match["part"]))


def _tensors(text: str | None) -> Iterator[EngineTensor]:
    """The tensors of a list without its last brace.  Raises ValueError for one in another form."""
    for item in re.split(r" ?\}, (?=\{ Name: )", text) if text else ():
        found = TENSOR.match(item)
        dtype = TYPE.search(found["rest"]) if found else None
        if found is None or dtype is None:
            raise ValueError(item)
        count = count_of([int(size) for size in found["dims"].split(",") if size])
        words = FORMAT.search(found["rest"])
        described = words["format"] if words else dtype["dtype"]
        yield EngineTensor(found["name"], dtype_of(dtype["dtype"]), described.strip(), count)
