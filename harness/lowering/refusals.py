"""What TensorRT or the reference refuses in a model, told before a builder or a session is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from harness.errors import ModelError, shorten
from harness.graph.walk import all_nodes, subgraphs
from harness.lowering.deployable import Refusal
from harness.lowering.operators import (
    DYNAMIC_QUANTIZATION,
    QDQ,
    QUANTIZED_ARITHMETIC,
    WEIGHTED,
)
from harness.lowering.parser_rules import refusals
from harness.lowering.targets import Target

NESTED = "an If in an If that a graph input decides"
_NO_LIMIT = 2**31 - 1
_KNOWN_TYPES = frozenset({ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN, ir.DataType.INT4})

Rule = Callable[[ir.Node], Iterator[str]]


def tensorrt_refusals(
    model: ir.Model, plugins: frozenset[str] = frozenset(), *, rtx: bool = False
) -> list[str]:
    """What every TensorRT, or TensorRT-RTX, would refuse in the normalised `model`, one line each.

    Empty where nothing is known.  `plugins` are the domains for which a plugin is loaded.
    """
    target: Target = "tensorrt_rtx" if rtx else "tensorrt"
    return list(dict.fromkeys(one.line for one in all_refusals(model, plugins) if one.by(target)))


def all_refusals(model: ir.Model, plugins: frozenset[str] = frozenset()) -> list[Refusal]:
    """What any target refuses in the normalised `model`.

    Q/DQ with zero points other than 0 or of unsigned codes, dynamic quantization, operators of integer
    arithmetic, Loops without a trip limit, Ifs nested in an If that a graph input decides; and what
    `parser_rules` knows of single nodes.
    """
    found = [
        Refusal(reason, way_out, node=node.name or "")
        for node in all_nodes(model.graph)
        for rule, way_out in _RULES.items()
        for reason in rule(node)
    ]
    nested = [one for node in all_nodes(model.graph) for one in _nested_ifs(node)]
    return [*found, *nested, *refusals(model, plugins)]


def check_reference(model: ir.Model) -> None:
    """Raise ModelError where `model` computes in BFLOAT16, which ONNX Runtime's CPU provider cannot."""
    for node in all_nodes(model.graph):
        types = {value.dtype for value in node.inputs if value is not None}
        if node.op_type in WEIGHTED and not node.domain and ir.DataType.BFLOAT16 in types:
            raise ModelError(
                f"node {shorten(node.name)} ({node.op_type}) computes in BFLOAT16, in which there is no "
                "reference: export the model in FP32, and name 'bf16' in the spec's precisions"
            )


def check_quantization(model: ir.Model) -> None:
    """Raise ModelError where `model` brings along a quantization that TensorRT refuses."""
    for node in all_nodes(model.graph):
        for line in _quantization(node):
            where = f"node {shorten(node.name)}: {line}"
            raise ModelError(f"TensorRT would refuse the model's own quantization: {where}")


def _quantization(node: ir.Node) -> Iterator[str]:
    if node.op_type in DYNAMIC_QUANTIZATION:
        yield f"dynamic quantization ({node.op_type})"
    elif node.op_type in QUANTIZED_ARITHMETIC:
        yield f"{node.op_type} instead of Q/DQ around a float operator"
    elif node.op_type in QDQ and not node.domain:
        yield from _zero_point(node)


def _zero_point(node: ir.Node) -> Iterator[str]:
    given = node.inputs[2] if len(node.inputs) > 2 else None
    codes = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    dtype = None if codes is None else codes.dtype
    if dtype == ir.DataType.INT32:
        yield "INT32 codes, as of a quantized bias"
    elif dtype is not None and dtype not in _KNOWN_TYPES:
        yield f"codes of type {dtype.name}"
    if given is None:
        return
    if given.const_value is None:
        yield "a zero point that is computed"
    elif np.any(given.const_value.numpy().astype(np.float32)):
        yield "a zero point other than 0"


def _loops(node: ir.Node) -> Iterator[str]:
    if node.op_type != "Loop" or node.domain:
        return
    limit = node.inputs[0]
    constant = None if limit is None or limit.const_value is None else int(limit.const_value.numpy().max())
    if limit is None or (constant is not None and constant >= _NO_LIMIT):
        yield "a Loop without a trip limit"


def _nested_ifs(node: ir.Node) -> Iterator[Refusal]:
    if node.op_type != "If" or node.domain or not _from_input(node.inputs[0]):
        return
    for graph in subgraphs(node):
        for inner in all_nodes(graph):
            if inner.op_type == "If" and not inner.domain:
                yield Refusal(NESTED, "export one branch, or decide by a constant", node=inner.name or "")


def _from_input(value: ir.Value | None) -> bool:
    """Whether the content, not just the shape, of a graph input reaches `value`."""
    stack, seen = [value], set[ir.Value]()
    while stack:
        current = stack.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        maker = current.producer()
        if maker is None and current.is_graph_input():
            return True
        if maker is not None and maker.op_type not in ("Shape", "Size"):
            stack.extend(maker.inputs)
    return False


_RULES: Mapping[Rule, str] = {
    _quantization: "quantize with symmetric INT8 Q/DQ, or give the float model, which is quantized here",
    _loops: "export with a constant limit, as `for` of a known length, or unroll it",
}
"""Rules that more than one room asks, with the way out."""
