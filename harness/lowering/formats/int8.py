"""INT8 as explicit quantization: Q/DQ that TensorRT takes.

1. Q/DQ goes on both inputs of weighted nodes: Conv, ConvTranspose, Gemm and MatMul whose second input is a
   FLOAT weight of rank 2 or more, and whose first is an activation.  Outputs and biases stay in float.
2. Symmetric, zero point 0: scale = largest magnitude / 127.
3. Activations per tensor, by calibrated range; one Q/DQ pair serves all users of a tensor.
4. Weights per output channel; per tensor where a MatMul weight has more than two axes or a ConvTranspose has
   groups.  A channel of zeros has scale 1.
5. A node of the plan is not quantized, nor one in a subgraph, whose tensors cannot be calibrated.
6. A model that has Q/DQ already is taken as it is.
7. With FP16 beside it (`fp16_scales`), scales are normal FP16 numbers, so that both types hold the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from harness.errors import LoweringError, ModelError, shorten
from harness.graph.walk import all_nodes
from harness.lowering.edit import Editor, is_tensor
from harness.lowering.model import LoweringSummary, Ranges
from harness.lowering.operators import QDQ, WEIGHTED
from harness.lowering.passes.base import Pass
from harness.lowering.weights import FP16_MIN_NORMAL
from harness.precision import PrecisionPlan

LEVELS = 127
"""Codes on each side of zero."""

_FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class Quantizable:
    """A node that INT8 quantizes, and the activation tensors that need a range for it."""

    node: str
    op_type: str
    activations: tuple[str, ...]


def is_quantized(model: ir.Model) -> bool:
    """Whether `model` has Q/DQ nodes, as quantization-aware training leaves them."""
    return any(node.op_type in QDQ and not node.domain for node in all_nodes(model.graph))


def quantizable(model: ir.Model, plan: PrecisionPlan) -> tuple[Quantizable, ...]:
    """The nodes of the normalised `model` that INT8 quantizes under `plan`, in graph order."""
    if is_quantized(model):
        return ()
    kept = reasons(model, plan)
    nodes = (n for n in model.graph if n.op_type in WEIGHTED and not n.domain and n.name not in kept)
    return tuple(Quantizable(n.name or "", n.op_type, (_input(n, 0).name or "",)) for n in nodes)


def reasons(model: ir.Model, plan: PrecisionPlan) -> dict[str, str]:
    """Why weighted nodes of `model` are not quantized, by node name; the others are."""
    found: dict[str, str] = {}
    for node in all_nodes(model.graph):
        if node.op_type in WEIGHTED and not node.domain:
            reason = _reason(node, plan, inside=node.graph is not model.graph)
            if reason is not None:
                found[node.name or ""] = reason
    return found


def _reason(node: ir.Node, plan: PrecisionPlan, *, inside: bool) -> str | None:
    if plan.keeps(node.name or "", node.op_type):
        return "plan"
    if inside:
        return "inside a subgraph: its tensors cannot be calibrated"
    activation, weight = _input(node, 0), _input(node, 1)
    if not is_tensor(activation, _FLOAT) or not is_tensor(weight, _FLOAT):
        return "not FLOAT"
    if not _is_weight(weight) or _is_weight(activation):
        return "its second input is not a weight, or its first is"
    if weight.const_value is not None and len(weight.const_value.shape) < 2:
        return "its weight has fewer than two axes"
    return None


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise ModelError(f"node {shorten(node.name)}: {node.op_type} lacks input {index}")
    return value


def _is_weight(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None


class Int8Pass(Pass):
    """Quantizes the weighted nodes that `plan` does not keep; `ranges` holds a magnitude per activation."""

    name = "lowering to INT8"

    def __init__(self, plan: PrecisionPlan, ranges: Ranges, *, fp16_scales: bool) -> None:
        self._plan, self._ranges, self._fp16_scales = plan, ranges, fp16_scales

    def apply(self, model: ir.Model) -> LoweringSummary:
        """See the module's rules.  Raises LoweringError where a range is missing."""
        if is_quantized(model):
            return LoweringSummary(quantized=tuple(_quantized(model)))
        kept = reasons(model, self._plan)
        targets = {target.node for target in quantizable(model, self._plan)}
        pairs = _Pairs(model, self._ranges, fp16_scales=self._fp16_scales)
        for node in [node for node in model.graph if node.name in targets]:
            pairs.quantize(node)
        return LoweringSummary(
            quantized=tuple(node.name or "" for node in model.graph if node.name in targets),
            kept=kept,
        )


def _quantized(model: ir.Model) -> Iterator[str]:
    """Nodes that read a dequantized tensor."""
    for node in all_nodes(model.graph):
        makers = (value.producer() for value in node.inputs if value is not None)
        if any(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
            yield node.name or ""


class _Pairs:
    """Adds Q/DQ pairs to one model; one pair for each tensor and axis."""

    def __init__(self, model: ir.Model, ranges: Ranges, *, fp16_scales: bool) -> None:
        self._graph, self._editor, self._ranges = model.graph, Editor(model), ranges
        self._smallest = FP16_MIN_NORMAL if fp16_scales else float(np.finfo(np.float32).tiny)
        self._rounded = np.float16 if fp16_scales else np.float32
        self._made: dict[tuple[ir.Value, int | None], ir.Value] = {}

    def quantize(self, node: ir.Node) -> None:
        """Put Q/DQ on the activation and the weight of `node`."""
        activation, weight = _input(node, 0), _input(node, 1)
        node.replace_input_with(0, self._pair(activation, None, node))
        node.replace_input_with(1, self._pair(weight, channel_axis(node), node))

    def _pair(self, value: ir.Value, axis: int | None, user: ir.Node) -> ir.Value:
        if (value, axis) not in self._made:
            is_weight = _is_weight(value)
            limits = channel_limits(value, axis) if is_weight else activation_limit(value, self._ranges)
            self._made[value, axis] = self._insert(value, self._scales(limits), axis, user)
        return self._made[value, axis]

    def _scales(self, limits: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore", under="ignore"):
            scales = np.maximum(limits / np.float32(LEVELS), np.float32(self._smallest))
            rounded = scales.astype(self._rounded).astype(np.float32)
        return np.where(limits == 0, np.float32(1), np.where(np.isinf(rounded), scales, rounded))

    def _insert(
        self, value: ir.Value, scales: NDArray[np.float32], axis: int | None, user: ir.Node
    ) -> ir.Value:
        base = self._editor.fresh(f"{value.name}__q8")
        scale = self._constant(f"{base}/scale", scales)
        zero = self._constant(f"{base}/zero", np.zeros(scales.shape, np.int8))
        codes = ir.Value(name=self._editor.fresh(f"{base}/q"), type=ir.TensorType(ir.DataType.INT8))
        result = ir.Value(name=base, type=ir.TensorType(_FLOAT))
        codes.shape = result.shape = None if value.shape is None else ir.Shape(value.shape.dims)
        attributes = {} if axis is None else {"axis": ir.AttrInt64("axis", axis)}
        pair = (("QuantizeLinear", value, codes), ("DequantizeLinear", codes, result))
        for op_type, source, target in pair:
            inputs, name = [source, scale, zero], self._editor.fresh(f"{base}/{op_type}")
            node = ir.Node("", op_type, inputs, dict(attributes), outputs=[target], name=name)
            self._graph.insert_before(user, node)
        return result

    def _constant(self, base: str, array: NDArray[np.float32] | NDArray[np.int8]) -> ir.Value:
        tensor = ir.Tensor(array, name=self._editor.fresh(base))
        shape = ir.Shape(array.shape)
        value = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
        self._graph.register_initializer(value)
        return value


def channel_axis(node: ir.Node) -> int | None:
    """The output-channel axis of the weight of `node`; None where the whole weight has one scale."""
    weight = _input(node, 1).const_value
    rank = 0 if weight is None else len(weight.shape)
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if _integer(node.attributes, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if _integer(node.attributes, "transB", 0) else 1
    return 1 if rank == 2 else None


def _integer(attributes: Mapping[str, ir.Attr], name: str, default: int) -> int:
    return attributes[name].as_int() if name in attributes else default


def channel_limits(value: ir.Value, axis: int | None) -> NDArray[np.float32]:
    """Largest magnitude of each channel of a weight, or of all of it; kept with the weight."""
    tensor = value.const_value
    assert tensor is not None
    key = f"harness.limits.{axis}"
    if key not in tensor.meta:
        array = tensor.numpy()
        axes = tuple(i for i in range(array.ndim) if i != axis) if axis is not None else None
        limits = np.maximum(array.max(axis=axes, initial=0), -array.min(axis=axes, initial=0))
        if not np.isfinite(limits).all():
            raise ModelError(f"weight {shorten(value.name)} has NaN or infinite values: cannot be INT8")
        tensor.meta[key] = np.asarray(limits, np.float32)
    kept: NDArray[np.float32] = tensor.meta[key]
    return kept


def activation_limit(value: ir.Value, ranges: Ranges) -> NDArray[np.float32]:
    """The calibrated magnitude of an activation.  Raises LoweringError where there is none."""
    name = value.name or ""
    if name not in ranges:
        raise LoweringError(f"INT8: no calibrated range for tensor {shorten(name)}")
    limit = np.asarray(ranges[name], np.float32)
    if limit.shape != () or not np.isfinite(limit) or limit < 0:
        raise LoweringError(f"INT8: range {limit} of tensor {shorten(value.name)}: must be finite and >= 0")
    return limit
