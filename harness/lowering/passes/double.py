"""The same model in float64, which says how far FP32 itself is from exact.

1. Every FLOAT tensor, constant and attribute becomes DOUBLE; weights are converted when they are read.
2. An input that the schema fixes to FLOAT and that is bound to no output (Resize's scales) gets a Cast.
3. An operator whose result cannot be DOUBLE, an operator of another domain, and a sequence of FLOAT are
   refused; so are GRU, LSTM and RNN, whose kernels say that they take DOUBLE and fail when they run.
   Inputs and outputs change their type, so this is no pass of a plan.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from harness.errors import LoweringError
from harness.graph.file import clone
from harness.graph.walk import all_graphs, all_nodes, all_values
from harness.lowering.edit import Editor, is_tensor, retype, retype_attributes
from harness.lowering.operators import RECURRENT
from harness.lowering.schema import Side, port
from harness.lowering.weights import converted

NARROW, WIDE = ir.DataType.FLOAT, ir.DataType.DOUBLE


def to_double(model: ir.Model) -> ir.Model:
    """`model` in float64; FLOAT inputs and outputs are DOUBLE.  Raises LoweringError where rule 3 refuses."""
    result = clone(model)
    version = result.opset_imports.get("", 0)
    for node in all_nodes(result.graph):
        _check(node, version)
    for value in all_values(result):
        _widen(value)
    for graph in all_graphs(result):
        for value in graph.outputs:
            _widen(value)
    editor = Editor(result)
    for node in list(all_nodes(result.graph)):
        _widen_attributes(node)
        _narrow_fixed_inputs(node, version, editor)
    return result


def _check(node: ir.Node, version: int) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise LoweringError(f"node {node.name!r}: {node.domain}.{node.op_type} is no standard operator")
    if node.op_type in RECURRENT:
        raise LoweringError(f"node {node.name!r}: {node.op_type} has no float64 kernel")
    for index, value in enumerate(node.outputs):
        if isinstance(value.type, (ir.SequenceType, ir.OptionalType)):
            raise LoweringError(f"node {node.name!r}: {node.op_type} gives no plain tensor")
        if is_tensor(value, NARROW) and not _takes(node, version, "outputs", index):
            raise LoweringError(f"node {node.name!r}: {node.op_type} has no float64 result")


def _takes(node: ir.Node, version: int, side: Side, index: int) -> bool:
    found = port(node, version, side, index)
    return found is None or found.takes(WIDE)


def _widen(value: ir.Value) -> None:
    if not is_tensor(value, NARROW):
        return
    retype(value, WIDE)
    if value.const_value is not None and value.const_value.dtype == NARROW:
        value.const_value = converted(value.const_value, WIDE, value.name or "")


def _widen_attributes(node: ir.Node) -> None:
    retype_attributes(node, NARROW, WIDE)
    if node.op_type == "ConstantOfShape" and "value" not in node.attributes:
        node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(np.zeros(1, np.float64)))
    if node.op_type == "Constant":
        _widen_constant(node)


def _widen_constant(node: ir.Node) -> None:
    single, several = node.attributes.get("value_float"), node.attributes.get("value_floats")
    if single is not None:
        array = np.asarray(single.as_float(), np.float64)
    elif several is not None:
        array = np.asarray(several.as_floats(), np.float64)
    else:
        return
    node.attributes.clear()
    node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(array))


def _narrow_fixed_inputs(node: ir.Node, version: int, editor: Editor) -> None:
    for index, value in enumerate(node.inputs):
        if value is None or not is_tensor(value, WIDE) or _takes(node, version, "inputs", index):
            continue
        node.replace_input_with(index, editor.as_type(value, NARROW, node, "__float"))
