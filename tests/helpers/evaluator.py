"""ONNX graphs in plain NumPy: FP32 arithmetic, and one rounding for each tensor that has 16 bits.

It knows no runtime and shares no code with what it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

HALVES = {ir.DataType.FLOAT16: np.float16, ir.DataType.BFLOAT16: ml_dtypes.bfloat16}
Known = dict[ir.Value, Any]


class UndefinedError(Exception):
    """ONNX does not say what the operator gives for these numbers."""


def evaluate(model: ir.Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Every named tensor of the main graph of `model`, whose tensors have types."""
    known: Known = {value: feeds[value.name] for value in model.graph.inputs}
    with np.errstate(all="ignore"):
        outputs = _graph(model.graph, known)
    ends = zip(model.graph.outputs, outputs, strict=True)
    own = {value for node in model.graph for value in node.outputs}
    return {v.name: a for v, a in known.items() if v in own} | {v.name: a for v, a in ends}


def half(array: Any, dtype: ir.DataType | None) -> Any:
    """`array` rounded to 16 bits and held in FP32, where `dtype` has 16 bits."""
    if dtype not in HALVES:
        return array
    return np.asarray(array, np.float32).astype(HALVES[dtype]).astype(np.float32)


def _graph(graph: ir.Graph, known: Known) -> list[Any]:
    for value in graph.initializers.values():
        known.setdefault(value, _wide(value.const_value.numpy()))
    for node in graph:
        arrays = [None if value is None else known[value] for value in node.inputs]
        made = (HELD if node.op_type in HELD else MADE)[node.op_type](_Node(node, known), *arrays)
        made = made if isinstance(made, list) else [made]
        for value, array in zip(node.outputs, made, strict=False):
            known[value] = half(array, value.dtype)
    return [known[value] for value in graph.outputs]


def _wide(array: Any) -> Any:
    return array.astype(np.float32) if array.dtype in (np.float16, ml_dtypes.bfloat16) else array


class _Node:
    """Attributes of a node, and its bodies as functions."""

    def __init__(self, node: ir.Node, known: Known) -> None:
        self.node, self.known = node, known

    def get(self, name: str, default: Any = None) -> Any:
        found = self.node.attributes.get(name)
        return default if found is None else found.value

    def body(self, name: str, *arrays: Any) -> list[Any]:
        graph = self.node.attributes[name].as_graph()
        inner = {**self.known, **dict(zip(graph.inputs, arrays, strict=True))}
        return _graph(graph, inner)


def _if(node: _Node, condition: Any) -> Any:
    return node.body("then_branch" if condition else "else_branch")


def _loop(node: _Node, limit: Any, go_on: Any, *state: Any) -> Any:
    rows, keep = [], True if go_on is None else bool(go_on)
    for step in range(int(limit)):
        if not keep:
            break
        keep, *rest = node.body("body", np.array(step), np.array(keep), *state)
        state, row = rest[: len(state)], rest[len(state) :]
        rows.append(row)
    return [*state, *(np.stack(column) for column in zip(*rows, strict=True))]


def _scan(node: _Node, *arrays: Any) -> Any:
    count = node.get("num_scan_inputs")
    state, scanned, rows = list(arrays[:-count]), arrays[-count:], []
    for step in range(len(scanned[0])):
        found = node.body("body", *state, *(array[step] for array in scanned))
        rows.append(found[len(state) :])
        state = found[: len(state)]
    return [*state, *(np.stack(column) for column in zip(*rows, strict=True))]


def _cast(node: _Node, x: Any) -> Any:
    to = ir.DataType(node.get("to"))
    return x.astype(np.float32) if to in HALVES else x.astype(to.numpy())


def _slice(_: _Node, x: Any, starts: Any, ends: Any, axes: Any, steps: Any = None) -> Any:
    index = [slice(None)] * x.ndim
    steps = np.ones(len(starts), int) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(int(start), int(end), int(step))
    return x[tuple(index)]


def _split(node: _Node, x: Any) -> Any:
    return np.split(x, node.get("num_outputs"), node.get("axis", 0))


def _gather_nd(_: _Node, x: Any, places: Any) -> Any:
    return x[tuple(np.moveaxis(places, -1, 0))]


def _gather_elements(node: _Node, x: Any, places: Any) -> Any:
    return np.take_along_axis(x, places, node.get("axis", 0))


def _scatter_nd(_: _Node, x: Any, places: Any, updates: Any) -> Any:
    result = x.copy()
    result[tuple(np.moveaxis(places, -1, 0))] = updates
    return result


def _scatter_elements(node: _Node, x: Any, places: Any, updates: Any) -> Any:
    result = x.copy()
    np.put_along_axis(result, places, updates, node.get("axis", 0))
    return result


def _depth_to_space(node: _Node, x: Any) -> Any:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    blocks = x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(node: _Node, x: Any) -> Any:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    blocks = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * b**2, h // b, w // b)


def _pad(node: _Node, x: Any, pads: Any, value: Any = None) -> Any:
    widths = list(zip(pads[: x.ndim], pads[x.ndim :], strict=True))
    if node.get("mode", "constant") == "constant":
        return np.pad(x, widths, constant_values=0 if value is None else value)
    return np.pad(x, widths, node.get("mode"))


def _max_pool(_: _Node, x: Any) -> Any:
    """Of two by two, one step each, padded at the end."""
    if np.isnan(x).any():
        raise UndefinedError
    wide = np.pad(x, [(0, 0), (0, 0), (0, 1), (0, 1)], constant_values=-np.inf)
    parts = (wide[:, :, a : a + x.shape[2], b : b + x.shape[3]] for a in (0, 1) for b in (0, 1))
    return np.max(list(parts), axis=0)


def _reduce_max(node: _Node, x: Any, axes: Any) -> Any:
    if np.isnan(x).any():
        raise UndefinedError
    return x.max(tuple(axes), keepdims=bool(node.get("keepdims", 1)))


def _reverse(_: _Node, x: Any, lengths: Any) -> Any:
    """Batches on the first axis, steps on the second."""
    result = x.copy()
    for row, length in enumerate(lengths):
        result[row, :length] = x[row, :length][::-1]
    return result


def _softmax(node: _Node, x: Any) -> Any:
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(node.get("axis", -1), keepdims=True))
    return powers / powers.sum(node.get("axis", -1), keepdims=True)


def _exactly(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that needs more than FP32 to be right to FP32."""
    return lambda _, *arrays: np.asarray(function(*(a.astype(np.float64) for a in arrays)), np.float32)


MADE: Mapping[str, Callable[..., Any]] = {
    **{
        name: lambda _, *arrays, of=of: of(*arrays)
        for name, of in {
            "Add": np.add,
            "Sub": np.subtract,
            "Mul": np.multiply,
            "Div": np.divide,
            "Sqrt": np.sqrt,
            "Neg": np.negative,
            "Abs": np.abs,
            "Floor": np.floor,
            "Max": np.maximum,
            "Min": np.minimum,
            "Less": np.less,
            "Where": np.where,
            "Identity": np.array,
            "Dropout": np.array,
            "Tile": np.tile,
            "Expand": lambda x, shape: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape))),
            "Relu": lambda x: np.maximum(x, np.float32(0)),
            "Reshape": lambda x, shape: np.reshape(x, tuple(shape)),
            "Squeeze": lambda x, axes: np.squeeze(x, tuple(axes)),
            "Unsqueeze": lambda x, axes: np.expand_dims(x, tuple(axes)),
        }.items()
    },
    **{
        name: _exactly(of)
        for name, of in {
            "MatMul": np.matmul,
            "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            "Tanh": np.tanh,
            "Exp": np.exp,
        }.items()
    },
    "Softmax": _softmax,
    "ReduceSum": lambda n, x, axes: x.sum(tuple(axes), keepdims=bool(n.get("keepdims", 1))),
    "ReduceMax": _reduce_max,
    "Cast": _cast,
    "Transpose": lambda n, x: np.transpose(x, n.get("perm")),
    "Flatten": lambda n, x: x.reshape(int(np.prod(x.shape[: n.get("axis", 1)])), -1),
    "Concat": lambda n, *arrays: np.concatenate(arrays, n.get("axis")),
    "Split": _split,
    "Slice": _slice,
    "Gather": lambda n, x, places: np.take(x, places, n.get("axis", 0)),
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Pad": _pad,
    "MaxPool": _max_pool,
    "Compress": lambda n, x, some: np.compress(some, x, n.get("axis")),
    "ReverseSequence": _reverse,
}
HELD = {"If": _if, "Loop": _loop, "Scan": _scan}
