"""A float64 model in FP32, which is as exact as TensorRT computes.

1. DOUBLE tensors, weights and attributes become FLOAT; weights are rounded when they are read.
2. Inputs and outputs of the model keep their types behind Casts, and all tensors their names.
3. Nodes of other domains, and nodes with sequences, keep DOUBLE between Casts.
4. A model whose DOUBLE tensors are only cast, or asked for their shape, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from harness.graph.walk import all_graphs, all_nodes, all_values
from harness.lowering.edit import Editor, is_tensor, retype, retype_attributes
from harness.lowering.model import LoweringSummary
from harness.lowering.operators import READERS
from harness.lowering.passes.base import Pass, run
from harness.lowering.weights import converted

NARROW, WIDE = ir.DataType.FLOAT, ir.DataType.DOUBLE
_SUFFIX = {NARROW: "__f32", WIDE: "__f64"}


def to_single(model: ir.Model) -> ir.Model:
    """`model` in FP32; the same object where nothing in it computes in float64."""
    return run(SinglePass(), model)[0] if any(map(_computes, all_nodes(model.graph))) else model


class SinglePass(Pass):
    """See the module's rules."""

    name = "float64 to FP32"

    def apply(self, model: ir.Model) -> LoweringSummary:
        """Change `model` in place."""
        editor, nodes = Editor(model), list(all_nodes(model.graph))
        wide = {value for value in all_values(model) if is_tensor(value, WIDE)}
        for value in wide - set(_staying(model, nodes)):
            _narrow(value)
        for value in dict.fromkeys(model.graph.outputs):
            if value in wide and is_tensor(value, NARROW):
                editor.cast_output(value, WIDE, _SUFFIX[NARROW])
        for node in nodes:
            _set_node(node, wide, editor)
        for graph in all_graphs(model):
            if graph is not model.graph:
                _narrow_ends(graph, editor)
        return LoweringSummary(casts=editor.casts)


def _computes(node: ir.Node) -> bool:
    reads = node.op_type in READERS or _is_foreign(node)
    return not reads and any(is_tensor(value, WIDE) for value in (*node.inputs, *node.outputs))


def _is_foreign(node: ir.Node) -> bool:
    ends = (value for value in (*node.inputs, *node.outputs) if value is not None and value.name)
    return bool(node.domain) or any(not isinstance(value.type, ir.TensorType) for value in ends)


def _staying(model: ir.Model, nodes: Iterable[ir.Node]) -> Iterator[ir.Value]:
    """DOUBLE tensors that stay: inputs, outputs that no node makes, and what foreign nodes make."""
    yield from model.graph.inputs
    yield from (value for value in model.graph.outputs if value.producer() is None)
    yield from (value for node in nodes if _is_foreign(node) for value in node.outputs)


def _narrow(value: ir.Value) -> None:
    retype(value, NARROW)
    if value.const_value is not None:
        value.const_value = converted(value.const_value, NARROW, value.name or "")


def _set_node(node: ir.Node, wide: set[ir.Value], editor: Editor) -> None:
    foreign = _is_foreign(node)
    if not foreign:
        retype_attributes(node, WIDE, NARROW)
    if node.op_type in READERS and not node.domain:
        return
    for index, value in enumerate(node.inputs):
        if foreign and value in wide and value is not None:
            node.replace_input_with(index, editor.as_type(value, WIDE, node, _SUFFIX[WIDE]))
        elif not foreign and is_tensor(value, WIDE) and value is not None:
            node.replace_input_with(index, editor.as_type(value, NARROW, node, _SUFFIX[NARROW]))


def _narrow_ends(graph: ir.Graph, editor: Editor) -> None:
    for index, value in enumerate(graph.outputs):
        if is_tensor(value, WIDE):
            editor.cast_end(graph, index, NARROW, _SUFFIX[NARROW])
