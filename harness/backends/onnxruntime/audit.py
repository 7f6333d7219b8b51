"""What precision each node of a lowered graph really has, against what lowering says it gave it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import onnx_ir as ir

from harness.backends.base import Audit
from harness.backends.onnxruntime.provider import CPU
from harness.lowering.model import LoweredModel
from harness.lowering.operators import WEIGHTED
from harness.precision import Precision

WORDS = MappingProxyType(
    {
        ir.DataType.FLOAT: Precision.FP32.value,
        ir.DataType.FLOAT16: Precision.FP16.value,
        ir.DataType.BFLOAT16: Precision.BF16.value,
        ir.DataType.DOUBLE: "fp64",
    }
)
CONVERSIONS = frozenset({"Cast", "CastLike", "QuantizeLinear", "DequantizeLinear", "Constant"})
EMULATED = "16-bit results computed in FP32 and rounded after each node; Q/DQ rounded, arithmetic in FP32"


def audit(
    lowered: LoweredModel, provider: str, deployed: Mapping[str, Any], messages: tuple[str, ...] = ()
) -> Audit:
    """Nodes by the precision that the graph gives them; every claim of the summary that it breaks.

    `deployed`: what is known of the deployed face, with `nodes_by_provider` where the runtime tells.
    """
    precision, summary = lowered.plan.precision, lowered.summary
    found = node_precisions(lowered.model)
    counts: dict[str, int] = {}
    for word in found.values():
        counts[word] = counts.get(word, 0) + 1
    emulated = provider == CPU and (precision.half is not None or precision.quantized)
    details = {"deployed": dict(deployed), **({"arithmetic": EMULATED} if emulated else {})}
    problems = (
        *_broken(lowered, found),
        *_nothing_lowered(lowered, counts),
        *_elsewhere(provider, deployed.get("nodes_by_provider", {})),
        *_other_tf32(deployed.get("provider_options_asked", {}), deployed.get("provider_options", {})),
    )
    return Audit(precision, counts, tuple(summary.kept), problems, messages, details)


def node_precisions(model: ir.Model) -> dict[str, str]:
    """Precision word by node name, of every node that computes on floating-point tensors.

    A node is INT8 when a tensor that it reads comes from a DequantizeLinear.
    """
    words = {}
    for node in every_node(model):
        if node.op_type not in CONVERSIONS and (word := _precision(node)) is not None:
            words[node.name or f"{node.op_type}:{id(node)}"] = word
    return words


def every_node(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes of the main graph and of all subgraphs."""
    return iter(model.graph.all_nodes())


def _precision(node: ir.Node) -> str | None:
    read = [value for value in node.inputs if value is not None]
    if any(_producer(value) == "DequantizeLinear" for value in read):
        return Precision.INT8.value
    types = [value.dtype for value in (*node.outputs, *read) if value.dtype in WORDS]
    return WORDS[types[0]] if types and types[0] is not None else None


def _producer(value: ir.Value) -> str | None:
    producer = value.producer()
    return producer.op_type if producer is not None else None


def _broken(lowered: LoweredModel, found: Mapping[str, str]) -> Iterator[str]:
    half, quantized = lowered.plan.precision.half, frozenset(lowered.summary.quantized)
    claims: list[tuple[Collection[str], str]] = [(quantized, Precision.INT8.value)]
    if half is not None:  # A node may be both: 16 bits between its Q/DQ, or the model's own, and the next.
        both = quantized if lowered.plan.precision.quantized else _int8(found)
        claims.append(([name for name in lowered.summary.lowered if name not in both], half.value))
    for names, word in claims:
        for name in names:
            if name in found and found[name] != word:
                yield f"node {name!r} should be {word}, is {found[name]}"


def _int8(found: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for name, word in found.items() if word == Precision.INT8.value)


def _nothing_lowered(lowered: LoweredModel, counts: Mapping[str, int]) -> Iterator[str]:
    precision, plan = lowered.plan.precision, lowered.plan
    wanted = Precision.INT8.value if precision.quantized else (precision.half or Precision.FP32).value
    if counts and not counts.get(wanted) and not (plan.fp32_nodes or plan.fp32_op_types):
        yield f"{precision} was asked, no node of {sum(counts.values())} is {wanted}{_why(lowered)}"


def _why(lowered: LoweredModel) -> str:
    """The commonest reason among those of the nodes that could have been lowered."""
    kept = lowered.summary.kept
    if lowered.plan.precision.quantized:
        weighted = {node.name for node in every_node(lowered.model) if node.op_type in WEIGHTED}
        kept = {name: reason for name, reason in kept.items() if name in weighted}
        if not weighted:
            return f": it has none of {', '.join(sorted(WEIGHTED))}"
    found = Counter(kept.values()).most_common(1)
    return "".join(f"; the commonest reason: {reason}" for reason, _ in found)


def _other_tf32(asked: Mapping[str, str], got: Mapping[str, str]) -> Iterator[str]:
    """TF32 alone costs a thousand times FP32's error; where the runtime does not tell, nothing is said."""
    wanted, is_on = asked.get("use_tf32"), got.get("use_tf32")
    if wanted is not None and is_on in ("0", "1") and is_on != wanted:
        yield f"use_tf32 = {wanted} was asked, the session has {is_on}"


def _elsewhere(provider: str, nodes: Mapping[str, int]) -> Iterator[str]:
    if nodes and not nodes.get(provider):
        yield f"{provider} was asked, all {sum(nodes.values())} nodes run on {', '.join(sorted(nodes))}"
