"""A lowered model run node by node: an oracle that trusts no conversion of the runtime.

1. Each node that computes runs alone, in FP32 and without optimisation, in a session that holds no 16-bit
   tensor.
2. What it makes is rounded by NumPy to the type that the lowered model gives it; so are its Casts.
3. If, Loop and Scan are run here, and their bodies node by node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.base import Tensors
from harness.backends.onnxruntime import loops
from harness.backends.onnxruntime.session import OrtEngine, SessionSettings, session_of
from harness.errors import RunError
from harness.graph.walk import subgraphs, values_of
from harness.lowering.edit import retype_attributes

Array = NDArray[Any]
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FLOAT = ir.DataType.FLOAT


class Nodewise:
    """Runs `model`, a lowered one whose tensors have their types; it must not change meanwhile."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._engines: dict[ir.Node, OrtEngine] = {}
        self._known: dict[ir.Value, Any] = {}

    def run(self, feeds: Tensors) -> dict[str, Array]:
        """Outputs by name.  Raises RunError, also for a node that makes or takes no tensor."""
        graph = self._model.graph
        self._known = {value: feeds[value.name or ""] for value in graph.inputs if value.name in feeds}
        self._evaluate(graph, Counter(_reads(graph)))
        found = {value.name or "": self._known[value] for value in graph.outputs}
        self._known = {}
        return found

    def _evaluate(self, graph: ir.Graph, uses: Counter[ir.Value] | None = None) -> None:
        """Run the nodes of `graph`; a tensor goes after the last of `uses`, where they are counted."""
        for value in graph.initializers.values():
            if value.const_value is not None and value not in self._known:
                self._known[value] = value.const_value.numpy()
        for node in graph:
            self._run_node(node)
            if uses is not None:
                self._forget(node, uses)

    def _forget(self, node: ir.Node, uses: Counter[ir.Value]) -> None:
        for value in _read_by(node):
            uses[value] -= 1
            if not uses[value]:
                self._known.pop(value, None)

    def _run_node(self, node: ir.Node) -> None:
        arrays = [None if value is None else self._known[value] for value in node.inputs]
        if any(True for _ in subgraphs(node)):
            made = loops.run(node, arrays, self._body)
        elif node.op_type == "Cast" and not node.domain and node.outputs[0].dtype in _HALVES:
            made = [arrays[0]]
        else:
            made = self._alone(node, arrays)
        for value, array in zip(node.outputs, made, strict=True):
            if value.name and array is not None:
                self._known[value] = rounded(array, value.dtype)

    def _body(self, graph: ir.Graph, arrays: Sequence[Any]) -> list[Any]:
        """Outputs of a body for its inputs."""
        for value in values_of(graph):
            self._known.pop(value, None)
        self._known.update(zip(graph.inputs, arrays, strict=True))
        self._evaluate(graph)
        return [self._known[value] for value in graph.outputs]

    def _alone(self, node: ir.Node, arrays: Sequence[Any]) -> list[Any]:
        feeds = {f"i{k}": widened(array) for k, array in enumerate(arrays) if array is not None}
        if node not in self._engines:
            self._engines[node] = _open(node, self._model, feeds)
        try:
            found = self._engines[node].run(feeds)
        except RunError as error:
            raise RunError(f"node {node.name!r} ({node.op_type}), alone: {error}") from error
        return [found.get(f"o{k}") for k in range(len(node.outputs))]

    def close(self) -> None:
        """Free the sessions."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def __enter__(self) -> Nodewise:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def widened(array: Array) -> Array:
    """`array` in FP32 where it has 16 bits."""
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def rounded(array: Array, dtype: ir.DataType | None) -> Array:
    """`array` as a 16-bit `dtype`, rounded once from FP32 to nearest even; as it is for any other."""
    if dtype not in _HALVES:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow: Array = array.astype(np.float32).astype(dtype.numpy())
    return narrow


def _open(node: ir.Node, model: ir.Model, feeds: Tensors) -> OrtEngine:
    copy = _copy(node, feeds)
    outputs = [value for value in copy.outputs if value.name]
    given = [value for value in copy.inputs if value is not None]
    graph = ir.Graph(given, outputs, nodes=[copy], opset_imports=model.opset_imports, name="node")
    proto = ir.serde.serialize_model(ir.Model(graph, ir_version=model.ir_version))
    try:
        return OrtEngine(session_of(proto.SerializeToString(), SessionSettings()))
    except RunError as error:
        raise RunError(f"node {node.name!r} ({node.op_type}), alone: {error}") from error


def _copy(node: ir.Node, feeds: Tensors) -> ir.Node:
    inputs = [
        None if value is None else _value(f"i{k}", ir.DataType.from_numpy(feeds[f"i{k}"].dtype))
        for k, value in enumerate(node.inputs)
    ]
    outputs = [
        _value(f"o{k}" if value.name else "", _FLOAT if value.dtype in _HALVES else value.dtype)
        for k, value in enumerate(node.outputs)
    ]
    attributes = list(node.attributes.values())
    copy = ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, name="node")
    for half in _HALVES:
        retype_attributes(copy, half, _FLOAT)
    return copy


def _value(name: str, dtype: ir.DataType | None) -> ir.Value:
    return ir.Value(name=name, type=None if dtype is None else ir.TensorType(dtype))


def _reads(graph: ir.Graph) -> Iterable[ir.Value]:
    """Every value that the nodes of `graph` read, as often as they do, and its outputs."""
    yield from graph.outputs
    for node in graph:
        yield from _read_by(node)


def _read_by(node: ir.Node) -> Iterable[ir.Value]:
    yield from (value for value in node.inputs if value is not None)
    for inner in subgraphs(node):
        yield from _reads(inner)
