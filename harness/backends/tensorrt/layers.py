"""The layers of a built engine as data, from the inspector's JSON or from what the builder says.

The inspector needs a GPU; TensorRT-RTX's builder says the same at the end of a build, on one line a layer.
Schemas differ: up to 10.x and RTX 1.4 a tensor has `Format/Datatype` in words, later `Datatype` and `Format`;
without detailed verbosity a layer is its name alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.backends.tensorrt.log import LAYERS
from harness.backends.tensorrt.network import node_of
from harness.errors import BuildError

SEPARATORS = "[\x1e\x1f]"
# Words for one type, in every schema, longest first where one contains another.
TYPES = (
    ("BF16", ("bf16", "bfloat16")),
    ("FP16", ("fp16", "half", "float16")),
    ("FP8", ("fp8",)),
    ("FP4", ("fp4",)),
    ("FP32", ("fp32", "float", "float32")),
    ("INT8", ("int8",)),
    ("INT4", ("int4",)),
    ("INT32", ("int32",)),
    ("INT64", ("int64",)),
    ("UINT8", ("uint8",)),
    ("BOOL", ("bool",)),
)
FLOATS = ("FP32", "FP16", "BF16")
NARROW = ("INT8", "FP8", "INT4", "FP4")


@dataclass(frozen=True)
class EngineTensor:
    """A tensor of an engine layer: name, type (`FP16`, ...) and memory format in TensorRT's words.

    `count` is the number of elements where it is known and fixed, else 0.
    """

    name: str
    dtype: str
    format: str
    count: int = 0


@dataclass(frozen=True)
class EngineLayer:
    """One layer of an engine; `nodes` are the ONNX nodes that TensorRT says it came from.

    `constants` are weights, biases and factors that are inside the layer.
    """

    name: str
    type: str
    tactic: str
    nodes: tuple[str, ...]
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    constants: tuple[EngineTensor, ...] = ()

    @property
    def precision(self) -> str:
        """`FP32`, `FP16`, ...; `FP16+FP32` where they meet in it; `other` if it holds no such tensor."""
        types = {tensor.dtype for tensor in (*self.inputs, *self.outputs)}
        narrow = types & set(NARROW) & {tensor.dtype for tensor in self.inputs}
        found = narrow or types & {*FLOATS, *NARROW}
        return "+".join(sorted(found)) or "other"


def layers_from_json(text: str) -> tuple[EngineLayer, ...]:
    """Layers out of `EngineInspector.get_engine_information(JSON)`.  Raises BuildError if it is none."""
    try:
        found = json.loads(text, strict=False)["Layers"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise BuildError(f"the engine inspector's answer has no layers: {text[:200]!r}") from error
    return tuple(_from_json(layer) for layer in found)


def _from_json(layer: str | Mapping[str, Any]) -> EngineLayer:
    if isinstance(layer, str):
        return EngineLayer(layer, "", "", (), (), ())
    return EngineLayer(
        str(layer.get("Name", "")),
        str(layer.get("LayerType", "")),
        str(layer.get("TacticName") or layer.get("TacticValue") or ""),
        nodes_of(str(layer.get("Metadata", ""))),
        tuple(map(_tensor_from_json, layer.get("Inputs", ()))),
        tuple(map(_tensor_from_json, layer.get("Outputs", ()))),
        tuple(_constants_from_json(layer)),
    )


def _constants_from_json(layer: Mapping[str, Any]) -> Iterator[EngineTensor]:
    yield from map(_tensor_from_json, layer.get("Constants", ()))
    for key in ("Weights", "Bias"):  # convolutions and the like, up to 10.x
        part = layer.get(key)
        if isinstance(part, Mapping) and part.get("Count"):
            yield EngineTensor(key, dtype_of(str(part.get("Type", ""))), "", int(part["Count"]))


def _tensor_from_json(tensor: Mapping[str, Any]) -> EngineTensor:
    described = str(tensor.get("Format/Datatype") or tensor.get("Format") or "")
    dtype = dtype_of(str(tensor.get("Datatype") or described))
    return EngineTensor(
        str(tensor.get("Name", "")), dtype, described, _count(tensor.get("Dimensions", (-1,)))
    )


def _count(dimensions: Sequence[int]) -> int:
    return math.prod(dimensions) if all(size >= 0 for size in dimensions) else 0


def dtype_of(words: str) -> str:
    """The type that TensorRT's words for a tensor name: `Row major linear FP32 format` is `FP32`."""
    found = re.split(r"[^a-z0-9]+", words.lower())
    return next((name for name, spellings in TYPES if any(s in found for s in spellings)), "")


def nodes_of(metadata: str) -> tuple[str, ...]:
    """The ONNX nodes named in the metadata of an engine layer, each once, in order."""
    names = (node_of(part.strip()) for part in re.split(SEPARATORS, metadata))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def layers_from_dump(text: str) -> tuple[EngineLayer, ...]:
    """Layers out of the builder's message that starts with LAYERS."""
    body = text.removeprefix(LAYERS).split("\n\n")[0]
    return tuple(_from_line(line) for line in body.split("\n") if line.startswith("Name: "))


# A list ends where the next key begins: dimensions have brackets of their own.
LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>.*?), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*?)\], "
    r"TacticName: (?P<tactic>.*?), StreamId: \d+, Metadata: ?(?P<metadata>.*)$"
)
TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[^]]*)\].*?"
    r"Datatype: (?P<dtype>[^,}]*?)(?:, Format: (?P<format>[^}]*?))? ?\}"
)


def _from_line(line: str) -> EngineLayer:
    found = LINE.match(line)
    if found is None:
        return EngineLayer(line.removeprefix("Name: ").split(", LayerType: ")[0], "", "", (), (), ())
    return EngineLayer(
        found["name"],
        found["type"],
        found["tactic"],
        nodes_of(found["metadata"]),
        tuple(_tensors(found["inputs"])),
        tuple(_tensors(found["outputs"])),
        tuple(_tensors(found["constants"] or "")),
    )


def _tensors(text: str) -> Iterator[EngineTensor]:
    for found in TENSOR.finditer(text):
        count = _count([int(size) for size in found["dims"].split(",") if size])
        yield EngineTensor(found["name"], dtype_of(found["dtype"]), (found["format"] or "").strip(), count)


def count_precisions(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """How many layers run in each precision."""
    counts: dict[str, int] = {}
    for layer in layers:
        counts[layer.precision] = counts.get(layer.precision, 0) + 1
    return dict(sorted(counts.items()))


def layer_of_node(layers: Iterable[EngineLayer]) -> dict[str, tuple[str, ...]]:
    """ONNX node -> names of the engine layers that it became part of."""
    found: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        for node in layer.nodes:
            found[node] = (*found.get(node, ()), layer.name)
    return found
