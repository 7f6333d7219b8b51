"""FP32 ONNX + precision plan -> ONNX with the plan in it."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from harness.errors import UsageError
from harness.graph.walk import all_nodes
from harness.lowering.formats.half import HalfPass
from harness.lowering.formats.int8 import Int8Pass, Quantizable
from harness.lowering.formats.int8 import quantizable as find
from harness.lowering.model import LoweredModel, LoweringSummary, Ranges
from harness.lowering.operators import PASS_THROUGH
from harness.lowering.passes.base import run
from harness.lowering.passes.convert import at_opset
from harness.lowering.passes.infer import infer
from harness.lowering.refusals import check_quantization
from harness.precision import Precision, PrecisionPlan

_BF16_OPSET = 22


def lower(normalised: ir.Model, plan: PrecisionPlan, ranges: Ranges | None = None) -> LoweredModel:
    """`normalised` with `plan` in it; FP32 and TF32 change nothing, INT8 needs `ranges`.

    Raises UsageError where a pattern of the plan matches no node, ModelError where TensorRT would refuse the
    quantization that a model brings along, LoweringError where a range is missing or a pass fails.
    """
    _check_plan(normalised, plan)
    model, summary = normalised, LoweringSummary()
    if plan.precision.quantized:
        model, summary = _quantize(model, plan, ranges or {})
    if plan.precision.half is not None:
        model, half = _halve(model, plan)
        summary = _joined(normalised, summary, half)
    return LoweredModel(model, plan, summary)


def _joined(normalised: ir.Model, quantization: LoweringSummary, half: LoweringSummary) -> LoweringSummary:
    """What both passes did, by the nodes of `normalised`; Q/DQ that were added are none of them."""
    names = {node.name or "" for node in all_nodes(normalised.graph)}
    kept = {**half.kept, **{n: r for n, r in quantization.kept.items() if n not in half.lowered}}
    return replace(
        half,
        lowered=tuple(name for name in half.lowered if name in names),
        quantized=quantization.quantized,
        kept={name: reason for name, reason in kept.items() if name in names},
    )


def _check_plan(model: ir.Model, plan: PrecisionPlan) -> None:
    lost = plan.unmatched((node.name or "", node.op_type) for node in all_nodes(model.graph))
    if lost:
        names = ", ".join(map(repr, lost))
        raise UsageError(f"the {plan.precision} plan names what no node matches: {names}")


def _quantize(model: ir.Model, plan: PrecisionPlan, ranges: Ranges) -> tuple[ir.Model, LoweringSummary]:
    check_quantization(model)
    return run(Int8Pass(plan, ranges, fp16_scales=plan.precision.half is not None), model)


def _halve(model: ir.Model, plan: PrecisionPlan) -> tuple[ir.Model, LoweringSummary]:
    if plan.precision.half is Precision.FP16:
        return run(HalfPass(plan, ir.DataType.FLOAT16), model)
    return run(HalfPass(plan, ir.DataType.BFLOAT16), _for_bf16(model))


def _for_bf16(model: ir.Model) -> ir.Model:
    """`model` at the first opset whose Conv, pooling and most others allow BF16."""
    result = at_opset(model, _BF16_OPSET)
    if result is not model:
        infer(result)
    return result


def quantizable(normalised: ir.Model, plan: PrecisionPlan) -> tuple[Quantizable, ...]:
    """The nodes that INT8 quantizes under `plan`, with the activation tensors that need a range."""
    return find(normalised, plan)


def candidates(normalised: ir.Model, precision: Precision) -> tuple[str, ...]:
    """Names of the nodes whose precision a plan decides, in graph order.

    Nodes that follow their producers or stay FP32 under any plan are not among them.
    """
    plan, chosen = PrecisionPlan(precision), set[str]()
    types = {node.name or "": node.op_type for node in all_nodes(normalised.graph)}
    if precision.quantized:
        chosen |= {target.node for target in quantizable(normalised, plan)}
    if precision.half is not None:
        lowered = _halve(normalised, PrecisionPlan(precision.half))[1].lowered
        chosen |= {name for name in lowered if types[name] not in PASS_THROUGH}
        chosen |= _unled(normalised, PrecisionPlan(precision.half).with_fp32_nodes(chosen))
    return tuple(name for name in types if name in chosen)


def _unled(normalised: ir.Model, plan: PrecisionPlan) -> set[str]:
    """Pass-through nodes that are lowered though every computing node is kept: they read weights alone."""
    rest = set(_halve(normalised, plan)[1].lowered)
    nodes = (node for node in all_nodes(normalised.graph) if node.name in rest)
    followers = {user.name or "" for node in nodes for value in node.outputs for user, _ in value.uses()}
    return rest - followers
