"""FP32 ONNX + precision plan -> ONNX with the plan in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.lowering.model import LoweredModel, LoweringSummary, Ranges
from harness.precision import Precision, PrecisionPlan

if TYPE_CHECKING:
    import onnx_ir as ir

    from harness.lowering.int8 import Quantizable

__all__ = [
    "LoweredModel",
    "LoweringSummary",
    "Ranges",
    "candidates",
    "emulate",
    "lower",
    "quantizable",
]

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
    from harness.onnx_graph import all_nodes

    names = {node.name or "" for node in all_nodes(normalised.graph)}
    kept = {**half.kept, **{n: r for n, r in quantization.kept.items() if n not in half.lowered}}
    return replace(
        half,
        lowered=tuple(name for name in half.lowered if name in names),
        quantized=quantization.quantized,
        kept={name: reason for name, reason in kept.items() if name in names},
    )


def _check_plan(model: ir.Model, plan: PrecisionPlan) -> None:
    from harness.onnx_graph import all_nodes

    lost = plan.unmatched((node.name or "", node.op_type) for node in all_nodes(model.graph))
    if lost:
        names = ", ".join(map(repr, lost))
        raise UsageError(f"the {plan.precision} plan names what no node matches: {names}")


def _quantize(model: ir.Model, plan: PrecisionPlan, ranges: Ranges) -> tuple[ir.Model, LoweringSummary]:
    from harness.lowering.int8 import Int8Pass
    from harness.lowering.passes import run
    from harness.lowering.refusals import check_quantization

    check_quantization(model)
    return run(Int8Pass(plan, ranges, fp16_scales=plan.precision.half is not None), model)


def _halve(model: ir.Model, plan: PrecisionPlan) -> tuple[ir.Model, LoweringSummary]:
    import onnx_ir as ir

    from harness.lowering.half import HalfPass
    from harness.lowering.passes import run

    if plan.precision.half is Precision.FP16:
        return run(HalfPass(plan, ir.DataType.FLOAT16), model)
    return run(HalfPass(plan, ir.DataType.BFLOAT16), _for_bf16(model))


def _for_bf16(model: ir.Model) -> ir.Model:
    """`model` at the first opset whose Conv, pooling and most others allow BF16."""
    from harness.lowering.convert import at_opset
    from harness.lowering.infer import infer

    result = at_opset(model, _BF16_OPSET)
    if result is not model:
        infer(result)
    return result


def emulate(lowered: LoweredModel) -> ir.Model:
    """The lowered model with every 16-bit rounding explicit, for a runtime that computes in FP32.

    Names and types of tensors are those of `lowered`; Q/DQ stays as it is.
    """
    from harness.lowering.emulation import EmulationPass
    from harness.lowering.passes import run

    if lowered.plan.precision.half is None:
        return lowered.model
    return run(EmulationPass(), lowered.model)[0]


def quantizable(normalised: ir.Model, plan: PrecisionPlan) -> tuple[Quantizable, ...]:
    """The nodes that INT8 quantizes under `plan`, with the activation tensors that need a range."""
    from harness.lowering.int8 import quantizable as find

    return find(normalised, plan)


def candidates(normalised: ir.Model, precision: Precision) -> tuple[str, ...]:
    """Names of the nodes whose precision a plan decides, in graph order.

    Nodes that follow their producers or stay FP32 under any plan are not among them.
    """
    from harness.lowering.operators import PASS_THROUGH
    from harness.onnx_graph import all_nodes

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
    from harness.onnx_graph import all_nodes

    rest = set(_halve(normalised, plan)[1].lowered)
    nodes = (node for node in all_nodes(normalised.graph) if node.name in rest)
    followers = {user.name or "" for node in nodes for value in node.outputs for user, _ in value.uses()}
    return rest - followers
