"""The layers of a built engine as data, out of the inspector's JSON.

Schemas differ: up to 10.x and RTX 1.4 a tensor has `Format/Datatype` in words, later `Datatype` and `Format`;
without detailed verbosity a layer is its name alone, and shapes that are not set leave types untold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.backends.tensorrt.network import node_of
from harness.errors import BuildError

# Between the words of two ONNX nodes; where a log lost its control characters, nothing is left of it.
SEPARATORS = re.compile("[\x1e\x1f]|(?<=\\])(?=\\[ONNX Layer: )")
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
    ("E8M0", ("e8m0",)),
)
FLOATS = ("FP32", "FP16", "BF16")
NARROW = ("INT8", "FP8", "INT4", "FP4")
WEIGHTS, BIAS = "Weights", "Bias"
# TensorRT 8.6 lists the layers once for each profile; those of the first have no mark.
PROFILE = re.compile(r" \[profile \d+\]$")


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
    def told(self) -> bool:
        """Whether the type of every tensor was told."""
        return bool(self.type) and all(tensor.dtype for tensor in (*self.inputs, *self.outputs))

    @property
    def types(self) -> frozenset[str]:
        """The types that are told: of tensors without single factors, of weights where tensors tell none."""
        tensors = {tensor.dtype for tensor in (*scaled(self.inputs), *self.outputs)}
        weights = () if self.told else (part.dtype for part in self.constants if part.name == WEIGHTS)
        return frozenset(tensors.union(weights) - {""})

    @property
    def precision(self) -> str:
        """`FP32`, `FP16`, ...; `FP16+FP32` where they meet in it; `other` if it holds no such tensor.

        `unknown` where types that were not told could change the answer.
        """
        given = self.inputs if self.told else (*self.inputs, *self.constants)
        narrow = self.types & set(NARROW) & {tensor.dtype for tensor in given}
        if not self.told and not narrow and not self._weighted:
            return "unknown"
        found = narrow or self.types & {*FLOATS, *NARROW}
        return "+".join(sorted(found)) or "other"

    @property
    def _weighted(self) -> bool:
        return any(part.name == WEIGHTS and part.dtype for part in self.constants)


def scaled(tensors: Sequence[EngineTensor]) -> tuple[EngineTensor, ...]:
    """`tensors` without single factors (`alpha`, `beta`), whose type says nothing of what they scale."""
    return tuple(tensor for tensor in tensors if tensor.count != 1) or tuple(tensors)


def operands(tensors: Sequence[EngineTensor]) -> tuple[EngineTensor, ...]:
    """What a layer computes with: the tensors before the first single factor, which scales a product.

    What follows it is added.  A lone tensor of one element is an operand too.
    """
    for number, tensor in enumerate(tensors):
        if tensor.count == 1 and number > 0:
            return tuple(tensors[:number])
    return tuple(tensors)


def layers_from_json(text: str, barred: Sequence[str] = ()) -> tuple[EngineLayer, ...]:
    """Layers out of `EngineInspector.get_engine_information(JSON)`, those of the first profile.

    `barred`: names of ONNX nodes that hold a bar.  Raises BuildError for an answer in another form.
    """
    try:
        found = json.loads(text, strict=False)["Layers"]
        layers = tuple(_from_json(layer, barred) for layer in found)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BuildError(f"the engine inspector's answer has no layers: {text[:200]!r}") from error
    return tuple(layer for layer in layers if not PROFILE.search(layer.name))


def _from_json(layer: str | Mapping[str, Any], barred: Sequence[str]) -> EngineLayer:
    if isinstance(layer, str):
        return EngineLayer(layer, "", "", (), (), ())
    return EngineLayer(
        str(layer["Name"]),
        str(layer.get("LayerType", "")),
        str(layer.get("TacticName") or layer.get("TacticValue") or ""),
        nodes_of(str(layer.get("Metadata", "")), barred),
        tuple(map(_tensor_from_json, layer.get("Inputs", ()))),
        tuple(map(_tensor_from_json, layer.get("Outputs", ()))),
        tuple(_constants_from_json(layer)),
    )


def _constants_from_json(layer: Mapping[str, Any]) -> Iterator[EngineTensor]:
    yield from map(_tensor_from_json, layer.get("Constants", ()))
    for key in (WEIGHTS, BIAS):  # convolutions and the like, up to 10.x
        if part := layer.get(key):
            yield from part_of_layer(key, part)


def part_of_layer(key: str, part: Mapping[str, Any]) -> Iterator[EngineTensor]:
    """Weights or a bias inside a layer: `{"Type": "Half", "Count": 9408}`; a count of 0 is none."""
    if count := int(part.get("Count", 0)):
        yield EngineTensor(key, dtype_of(str(part.get("Type", ""))), "", count)


def _tensor_from_json(tensor: Mapping[str, Any]) -> EngineTensor:
    described = str(tensor.get("Format/Datatype") or tensor.get("Format") or "")
    dtype = dtype_of(str(tensor.get("Datatype") or described))
    return EngineTensor(str(tensor["Name"]), dtype, described, count_of(tensor.get("Dimensions", (-1,))))


def count_of(dimensions: Sequence[int]) -> int:
    """The number of elements; 0 where a size is not fixed."""
    sizes = [int(size) for size in dimensions]
    return math.prod(sizes) if all(size >= 0 for size in sizes) else 0


def dtype_of(words: str) -> str:
    """The type that TensorRT's words for a tensor name: `Row major linear FP32 format` is `FP32`."""
    found = re.split(r"[^a-z0-9]+", words.lower())
    return next((name for name, spellings in TYPES if any(s in found for s in spellings)), "")


def nodes_of(metadata: str, barred: Sequence[str] = ()) -> tuple[str, ...]:
    """The ONNX nodes named in the metadata of an engine layer, each once, in order."""
    names = (node_of(part.strip(), barred) for part in SEPARATORS.split(metadata))
    return tuple(dict.fromkeys(name for name in names if name is not None))


def completed(asked: Sequence[EngineLayer], listed: Sequence[EngineLayer]) -> tuple[EngineLayer, ...]:
    """The layers `asked` of the inspector, with tensors that the builder `listed` where types were not told.

    TensorRT 8.6 tells no types of dynamic shapes, with a context or without, but lists them after the build.
    """
    named = {layer.name: layer for layer in listed if layer.told}
    return tuple(
        replace(layer, inputs=named[layer.name].inputs, outputs=named[layer.name].outputs)
        if not layer.told and layer.name in named
        else layer
        for layer in asked
    )


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
