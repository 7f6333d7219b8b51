"""Types and shapes of all tensors, by onnx's own inference."""

from __future__ import annotations

from functools import partial

import onnx
import onnx_ir as ir

from harness.errors import ModelError
from harness.graph.proto import nodes
from harness.graph.walk import all_graphs, values_of
from harness.lowering.stubs import through

_NOT_INFERRED = frozenset({"GroupNormalization"})
"""Operators whose output is like their first input, which onnx's inference does not know."""


def infer(model: ir.Model, *, check: bool = False) -> None:
    """Fill in the types and shapes that inference finds and `model` does not state; in place.

    Inputs and outputs keep what they state.  Tensors behind operators that ONNX does not know stay untyped.
    Raises ModelError where inference finds the graph contradictory and, with `check`, where an operator does
    not take the type of an input; BFLOAT16 is taken where older versions of an operator did not name it yet.
    """
    try:
        inferred = through(model, partial(_inferred, check=check))
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
        said = " ".join(str(error).split())
        if check and "tensor(bfloat16)" in said:
            infer(model)
            return
        raise ModelError(f"types cannot be inferred: {said}") from error
    for graph, twin in zip(all_graphs(model), all_graphs(inferred), strict=True):
        found = {value.name: value for value in values_of(twin)}
        fixed = {*graph.inputs, *graph.outputs}
        for value in values_of(graph):
            if value.name in found:
                _merge(value, found[value.name], fixed=value in fixed)


def _inferred(proto: onnx.ModelProto, check: bool) -> onnx.ModelProto:
    """`proto` with types and shapes; what stands in for operators that are not inferred stays in it."""
    for node in nodes(proto):
        if node.op_type in _NOT_INFERRED and not node.domain:
            node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output, node.name))
    return onnx.shape_inference.infer_shapes(proto, check_type=check)


def _merge(value: ir.Value, found: ir.Value, *, fixed: bool) -> None:
    if value.type is None:
        value.type = found.type
    if found.shape is not None and (value.shape is None or not fixed):
        value.shape = found.shape.copy()
