"""Which intermediate tensors a model has, what makes and feeds them, and how many bytes each takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from harness.backends.base import Tensors
from harness.graph import file as onnx_file
from harness.graph.walk import subgraphs, values_of
from harness.lowering.stubs import without_weights

_COMPARABLE = frozenset(
    {
        *(ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64, ir.DataType.BOOL),
    }
)
_SHAPE_SUFFIX = "__shape"


@dataclass(frozen=True)
class Place:
    """A tensor of the main graph: the node that makes it, and the tensors that the node reads."""

    tensor: str
    node: str
    op_type: str
    reads: tuple[str, ...]


def places_of(model: ir.Model) -> tuple[Place, ...]:
    """Every tensor that a node of the main graph makes and that can be compared, in graph order.

    A node with subgraphs reads also what they read from outside.  Sequences, optionals, strings and
    complex tensors are left out.
    """
    return tuple(
        Place(value.name, node.name or "", node.op_type, tuple(_reads(node)))
        for node in model.graph
        for value in node.outputs
        if value.name and _comparable(value)
    )


def _reads(node: ir.Node) -> Iterator[str]:
    inner = (each for graph in subgraphs(node) for one in graph for each in _reads(one))
    yield from dict.fromkeys([*(v.name for v in node.inputs if v is not None and v.name), *inner])


def _comparable(value: ir.Value) -> bool:
    known = value.type is None or isinstance(value.type, ir.TensorType)
    return known and (value.dtype is None or value.dtype in _COMPARABLE)


@dataclass(frozen=True)
class Extent:
    """Shape and bytes of a tensor."""

    shape: tuple[int, ...]
    nbytes: int


def extents_of(model: ir.Model, names: Sequence[str], feeds: Tensors) -> dict[str, Extent]:
    """The extent of each tensor of `model` for `feeds`: by shape inference, where that fails by one run.

    The run returns shapes alone, so that it needs no memory for the tensors.
    """
    types = _inferred(model, feeds)
    shapes = {name: shape for name in names if (shape := _shape(types.get(name))) is not None}
    if unknown := [name for name in names if name not in shapes]:
        shapes |= _measured(model, unknown, feeds)
    return {n: Extent(shapes[n], _width(types.get(n)) * math.prod(shapes[n])) for n in names}


def _inferred(model: ir.Model, feeds: Tensors) -> dict[str, onnx.TypeProto.Tensor]:
    """Types of tensors by name, as far as shape inference finds them."""
    proto = without_weights(model)
    for value in proto.graph.input:
        if value.name in feeds:
            sizes = [onnx.TensorShapeProto.Dimension(dim_value=size) for size in feeds[value.name].shape]
            value.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto(dim=sizes))
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    return {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}


def _shape(found: onnx.TypeProto.Tensor | None) -> tuple[int, ...] | None:
    if found is None or not found.HasField("shape"):
        return None
    sizes = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in found.shape.dim)
    return None if -1 in sizes else sizes


def _measured(model: ir.Model, names: Sequence[str], feeds: Tensors) -> dict[str, tuple[int, ...]]:
    """Shapes of tensors, by a run of a copy of `model` with a Shape node behind each."""
    from harness.backends.onnxruntime.backend import open_model

    copy = onnx_file.clone(model)
    values = {value.name: value for value in values_of(copy.graph)}
    copy.graph.extend(ir.node("Shape", [values[name]], outputs=[_shape_value(name)]) for name in names)
    with open_model(copy, [name + _SHAPE_SUFFIX for name in names]) as engine:
        shapes = engine.run(feeds)
    return {name: tuple(shapes[name + _SHAPE_SUFFIX].tolist()) for name in names}


def _shape_value(name: str) -> ir.Value:
    return ir.Value(name=name + _SHAPE_SUFFIX, type=ir.TensorType(ir.DataType.INT64))


def _width(found: onnx.TypeProto.Tensor | None) -> int:
    """Bytes of an element; those of a float32 where its type is unknown."""
    kind = ir.DataType(found.elem_type if found else 0)
    return max(1, math.ceil(kind.bitwidth / 8)) if kind else 4


@dataclass(frozen=True)
class Groups:
    """Tensors in groups that fit the memory; `oversized` are those that alone do not."""

    groups: tuple[tuple[str, ...], ...]
    oversized: tuple[str, ...]


def groups_of(needs: Mapping[str, int], memory_bytes: int, *, enough_bytes: int | None = None) -> Groups:
    """Tensors in order, in as few groups as the order allows; `needs` is bytes that comparing each takes.

    A group takes `memory_bytes` at most, and `enough_bytes` unless a tensor alone takes more.
    """
    groups: list[list[str]] = []
    most, room = min(memory_bytes, enough_bytes or memory_bytes), 0
    for name, need in needs.items():
        if not groups or need > room:
            groups.append([])
            room = most
        groups[-1].append(name)
        room -= need
    oversized = tuple(name for name, need in needs.items() if need > memory_bytes)
    return Groups(tuple(map(tuple, groups)), oversized)


def last_reads(places: Sequence[Place]) -> dict[str, int]:
    """The index in `places` of the last node that reads each tensor."""
    return {name: index for index, place in enumerate(places) for name in place.reads}
