"""Which intermediate tensors a model has, what makes and feeds them, and how many bytes each takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from harness import onnx_file
from harness.backends.base import Tensors
from harness.lowering.stubs import through
from harness.onnx_graph import subgraphs

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


def bytes_of(model: ir.Model, names: Sequence[str], feeds: Tensors) -> dict[str, int]:
    """Bytes of each tensor of `model` for `feeds`: by shape inference, and where that cannot tell by one run.

    The run returns shapes alone, so that it needs no memory for the tensors.
    """
    fixed = _inferred(model, feeds)
    values = {value.name: value for node in fixed.graph for value in node.outputs if value.name}
    known = {name: size for name in names if (size := _size(values[name])) is not None}
    unknown = {name: values[name] for name in names if name not in known}
    if unknown:
        known |= _measured(fixed, unknown, feeds)
    return {name: known[name] for name in names}


def _inferred(model: ir.Model, feeds: Tensors) -> ir.Model:
    fixed = onnx_file.clone(model)
    for value in fixed.graph.inputs:
        if (name := value.name or "") in feeds:
            value.shape = ir.Shape(feeds[name].shape)

    def run(proto: onnx.ModelProto) -> onnx.ModelProto:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)

    return through(fixed, run)


def _size(value: ir.Value) -> int | None:
    if value.shape is None or not all(isinstance(size, int) for size in value.shape):
        return None
    return _width(value) * math.prod(int(size) for size in value.shape if isinstance(size, int))


def _measured(model: ir.Model, values: Mapping[str, ir.Value], feeds: Tensors) -> dict[str, int]:
    """Add a Shape node behind each of `values`, tensors of `model`, which changes, and run it."""
    from harness.backends.onnxruntime import open_model

    for name, value in values.items():
        model.graph.append(ir.node("Shape", [value], outputs=[_shape_value(name)]))
    with open_model(model, [name + _SHAPE_SUFFIX for name in values]) as engine:
        shapes = engine.run(feeds)
    return {n: _width(v) * math.prod(int(s) for s in shapes[n + _SHAPE_SUFFIX]) for n, v in values.items()}


def _shape_value(name: str) -> ir.Value:
    return ir.Value(name=name + _SHAPE_SUFFIX, type=ir.TensorType(ir.DataType.INT64))


def _width(value: ir.Value) -> int:
    return 4 if value.dtype is None else max(1, math.ceil(value.dtype.bitwidth / 8))


@dataclass(frozen=True)
class Groups:
    """Tensors in groups that fit the memory; `oversized` are those that alone do not."""

    groups: tuple[tuple[str, ...], ...]
    oversized: tuple[str, ...]


def groups_of(needs: Mapping[str, int], memory_bytes: int) -> Groups:
    """Tensors in order, in as few groups as the order allows; `needs` is bytes that comparing each takes."""
    groups: list[list[str]] = []
    room, oversized = 0, []
    for name, need in needs.items():
        if need > memory_bytes:
            oversized.append(name)
        if not groups or need > room:
            groups.append([])
            room = memory_bytes
        groups[-1].append(name)
        room -= need
    return Groups(tuple(map(tuple, groups)), tuple(oversized))


def last_reads(places: Sequence[Place]) -> dict[str, int]:
    """The index in `places` of the last node that reads each tensor."""
    return {name: index for index, place in enumerate(places) for name in place.reads}
