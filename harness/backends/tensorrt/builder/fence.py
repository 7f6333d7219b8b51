"""Keeps FP32 products FP32 in strongly typed engines.

Seen with TensorRT-RTX 1.7: a MatMul, Gemm without a bias, Conv, ConvTranspose or Einsum in FP32 that stands
alone between a Cast to FP32 and a Cast back becomes one FP16 kernel, weights rounded to FP16 with it, be they
1e6 or 1e-9.  Other operators keep their constants.
1. A Clip without bounds goes between such a product and the Cast that narrows its output.  It changes no
   value that the Cast does not change the same way, and the builder does not look through it.
2. Only Casts to a 16-bit type are moved behind the Clip; every other consumer stays where it is.
3. Names of nodes and tensors stay; the Clip and its output have names of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from harness.graph import file as onnx_file
from harness.graph.walk import all_nodes
from harness.lowering.edit import Editor

PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum")
HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def fence(model: ir.Model) -> ir.Model:
    """A copy of `model` with the Clips; `model` itself where none is needed."""
    if next(_narrowed(model), None) is None:
        return model
    result = onnx_file.clone(model)
    editor = Editor(result)
    for node in list(_narrowed(result)):
        _insert(node, editor.fresh(f"{node.outputs[0].name}__fence"))
    return result


def _narrowed(model: ir.Model) -> Iterator[ir.Node]:
    """FP32 products whose output is cast to 16 bits."""
    for node in all_nodes(model.graph):
        if node.op_type in PRODUCTS and node.domain == "" and _narrowing_casts(node.outputs[0]):
            yield node


def _narrowing_casts(value: ir.Value) -> list[ir.Node]:
    if value.dtype not in (None, ir.DataType.FLOAT):
        return []
    casts = (user for user in value.consumers() if user.op_type == "Cast" and user.domain == "")
    return [cast for cast in casts if cast.attributes["to"].as_int() in HALVES]


def _insert(node: ir.Node, name: str) -> None:
    value = node.outputs[0]
    output = ir.Value(name=name, type=value.type, shape=value.shape)
    casts = _narrowing_casts(value)
    clip = ir.Node("", "Clip", [value], outputs=[output], name=f"{name}/clip")
    graph = node.graph
    assert graph is not None
    graph.insert_after(node, [clip])
    for cast in casts:
        cast.replace_input_with(0, output)
