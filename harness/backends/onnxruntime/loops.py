"""If, Loop and Scan of ONNX by their definitions, for whoever runs bodies himself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from harness.errors import RunError

Body = Callable[[ir.Graph, Sequence[Any]], list[Any]]
"""Outputs of a body for its inputs; what it reads from outside it finds by itself."""


def run(node: ir.Node, arrays: Sequence[Any], body: Body) -> list[Any]:
    """Outputs of `node` for its input arrays.  Raises RunError for any other operator."""
    if node.domain or node.op_type not in _RUN:
        raise RunError(f"node {node.name!r}: {node.op_type} holds a graph, and is not run node by node")
    return _RUN[node.op_type](node, arrays, body)


def _if(node: ir.Node, arrays: Sequence[Any], body: Body) -> list[Any]:
    branch = "then_branch" if bool(np.all(arrays[0])) else "else_branch"
    return body(node.attributes[branch].as_graph(), [])


def _loop(node: ir.Node, arrays: Sequence[Any], body: Body) -> list[Any]:
    graph = node.attributes["body"].as_graph()
    limit = None if arrays[0] is None else int(np.squeeze(arrays[0]))
    go_on = True if len(arrays) < 2 or arrays[1] is None else bool(np.all(arrays[1]))
    state = list(arrays[2:])
    made: list[list[Any]] = [[] for _ in graph.outputs[1 + len(state) :]]
    step = 0
    while go_on and (limit is None or step < limit):
        found = body(graph, [np.array(step, np.int64), np.array(go_on), *state])
        go_on, state = bool(np.all(found[0])), found[1 : 1 + len(state)]
        for every, one in zip(made, found[1 + len(state) :], strict=True):
            every.append(one)
        step += 1
    ends = graph.outputs[1 + len(state) :]
    return [*state, *(_stacked(every, 0, end) for every, end in zip(made, ends, strict=True))]


def _scan(node: ir.Node, arrays: Sequence[Any], body: Body) -> list[Any]:
    graph, count = node.attributes["body"].as_graph(), node.attributes["num_scan_inputs"].as_int()
    carried = len(arrays) - count
    state, outputs = list(arrays[:carried]), graph.outputs[carried:]
    inputs = list(zip(arrays[carried:], *_ways(node, "input", count), strict=True))
    slices = [_turned(np.moveaxis(array, axis, 0), back) for array, axis, back in inputs]
    made: list[list[Any]] = [[] for _ in outputs]
    for step in range(len(slices[0])):
        found = body(graph, [*state, *(array[step] for array in slices)])
        state = found[:carried]
        for every, one in zip(made, found[carried:], strict=True):
            every.append(one)
    ends = zip(made, outputs, *_ways(node, "output", len(outputs)), strict=True)
    return [*state, *(_stacked(_turned(every, back), axis, end) for every, end, axis, back in ends)]


def _ways(node: ir.Node, side: str, count: int) -> tuple[list[int], list[int]]:
    """Axes of the scanned tensors, and which run backwards."""
    given = [node.attributes.get(f"scan_{side}_{what}") for what in ("axes", "directions")]
    axes, directions = (list(one.as_ints()) if one is not None else [0] * count for one in given)
    return axes, directions


def _turned(sequence: Any, back: int) -> Any:
    return sequence[::-1] if back else sequence


def _stacked(every: Sequence[Any], axis: int, end: ir.Value) -> Any:
    """What the steps made as one tensor; without a step it is empty, of the rank that the body says."""
    if every:
        return np.stack(every, axis)
    known = [] if end.shape is None else [size if isinstance(size, int) else 0 for size in end.shape]
    dtype = np.dtype(np.float32) if end.dtype is None else end.dtype.numpy()
    return np.zeros((0, *known), dtype)


_RUN = {"If": _if, "Loop": _loop, "Scan": _scan}
