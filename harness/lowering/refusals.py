"""What TensorRT or the reference refuses in a model, told before a builder or a session is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from harness.errors import ModelError, shorten
from harness.graph.walk import all_nodes, subgraphs
from harness.lowering.operators import (
    DYNAMIC_QUANTIZATION,
    NOT_IN_TENSORRT,
    QDQ,
    QUANTIZED_ARITHMETIC,
    WEIGHTED,
)

_NO_LIMIT = 2**31 - 1
_KNOWN_TYPES = frozenset({ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN, ir.DataType.INT4})

Rule = Callable[[ir.Node], Iterator[str]]


def tensorrt_refusals(model: ir.Model, plugins: frozenset[str] = frozenset()) -> list[str]:
    """What TensorRT would refuse in the normalised `model`, one line each; empty where nothing is known.

    `plugins` are the domains for which a plugin is loaded.  Q/DQ with zero points other than 0 or of
    unsigned codes, dynamic quantization, operators of integer arithmetic and of sequences or strings, custom
    domains, Loops without a trip limit, and Ifs nested in an If that a graph input decides.
    """
    rules: tuple[Rule, ...] = (_quantization, _operators, _loops, _nested_ifs)
    found = [line for node in all_nodes(model.graph) for rule in rules for line in rule(node)]
    custom = {node.domain for node in all_nodes(model.graph) if node.domain} - plugins
    return found + [f"the operators of domain {shorten(domain)} need a plugin" for domain in sorted(custom)]


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
            raise ModelError(f"TensorRT would refuse the model's own quantization: {line}")


def _quantization(node: ir.Node) -> Iterator[str]:
    label = f"node {shorten(node.name)}"
    if node.op_type in DYNAMIC_QUANTIZATION:
        yield f"{label}: dynamic quantization ({node.op_type})"
    elif node.op_type in QUANTIZED_ARITHMETIC:
        yield f"{label}: {node.op_type} instead of Q/DQ around a float operator"
    elif node.op_type in QDQ and not node.domain:
        yield from _zero_point(node, label)


def _zero_point(node: ir.Node, label: str) -> Iterator[str]:
    given = node.inputs[2] if len(node.inputs) > 2 else None
    codes = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
    dtype = None if codes is None else codes.dtype
    if dtype == ir.DataType.INT32:
        yield f"{label}: INT32 codes, as of a quantized bias"
    elif dtype is not None and dtype not in _KNOWN_TYPES:
        yield f"{label}: codes of type {dtype.name}"
    if given is None:
        return
    if given.const_value is None:
        yield f"{label}: a zero point that is computed"
    elif np.any(given.const_value.numpy().astype(np.float32)):
        yield f"{label}: a zero point other than 0"


def _operators(node: ir.Node) -> Iterator[str]:
    if node.op_type in NOT_IN_TENSORRT and not node.domain:
        yield f"node {shorten(node.name)}: TensorRT has no {node.op_type}"


def _loops(node: ir.Node) -> Iterator[str]:
    if node.op_type != "Loop" or node.domain:
        return
    limit = node.inputs[0]
    constant = None if limit is None or limit.const_value is None else int(limit.const_value.numpy().max())
    if limit is None or (constant is not None and constant >= _NO_LIMIT):
        yield f"node {shorten(node.name)}: a Loop without a trip limit"


def _nested_ifs(node: ir.Node) -> Iterator[str]:
    if node.op_type != "If" or node.domain or not _from_input(node.inputs[0]):
        return
    for graph in subgraphs(node):
        for inner in all_nodes(graph):
            if inner.op_type == "If" and not inner.domain:
                yield f"node {shorten(inner.name)}: an If in an If that a graph input decides"


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
