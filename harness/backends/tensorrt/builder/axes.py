"""Axes of reductions as the ONNX parsers before TensorRT 10 read them.

Normalised models have opset 19, whose reductions take their axes as an input.  Those parsers read them from
an attribute alone, whatever the opset, and without one reduce over all axes and say nothing (importers of
onnx-tensorrt 8.6-GA to 9.3; ReduceSum and ReduceLogSum read the input).
1. Constant axes become the attribute; no axes at all mean all of them in both forms.
2. Refused are computed axes, reductions over nothing, and Pad with axes, which those parsers do not look at.
"""

from __future__ import annotations

import onnx_ir as ir

from harness.errors import BuildError
from harness.graph import file as onnx_file
from harness.graph.walk import all_nodes

REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
)


def attribute_axes(model: ir.Model) -> ir.Model:
    """A copy of `model` whose reductions have their axes as an attribute.  Raises BuildError."""
    result = onnx_file.clone(model)
    for node in all_nodes(result.graph):
        if node.domain == "" and node.op_type in REDUCTIONS:
            _rewrite(node)
        if node.domain == "" and node.op_type == "Pad" and _given(node, 3) is not None:
            raise BuildError(f"Pad {node.name!r}: TensorRT reads its axes from version 10 on")
    return result


def _rewrite(node: ir.Node) -> None:
    axes = _constant(node)
    noop = node.attributes.get("noop_with_empty_axes")
    if not axes and noop is not None and noop.as_int():
        raise BuildError(f"{node.op_type} {node.name!r} over nothing: TensorRT takes it from version 10 on")
    if axes:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    node.resize_inputs(1)


def _constant(node: ir.Node) -> list[int]:
    given = _given(node, 1)
    if given is None:
        return []
    if given.const_value is None:
        raise BuildError(f"{node.op_type} {node.name!r}: TensorRT before 10 takes no computed axes")
    return [int(axis) for axis in given.const_value.numpy().reshape(-1)]


def _given(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if len(node.inputs) > index else None
