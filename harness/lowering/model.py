"""What lowering returns: the graph, and what was done to it and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from harness.precision import PrecisionPlan

Ranges = Mapping[str, float]
"""Calibrated largest magnitude of each activation tensor that INT8 quantizes, by tensor name."""


@dataclass(frozen=True)
class LoweringSummary:
    """What was done and why; node and tensor names are those of the normalised FP32 graph.

    `lowered`: nodes that compute in 16 bits.  `quantized`: nodes with Q/DQ on their inputs.  `kept`: nodes
    that stay FP32, each with the reason.  `overflow`: weights with finite values outside the 16-bit range.
    `underflow`: weights with non-zero values that become subnormal or zero in it.  `casts`: Casts added.
    """

    lowered: tuple[str, ...] = ()
    quantized: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    overflow: tuple[str, ...] = ()
    underflow: tuple[str, ...] = ()
    casts: int = 0


@dataclass(frozen=True)
class LoweredModel:
    """A graph with a precision plan in it.  Original node and tensor names survive."""

    model: ir.Model
    plan: PrecisionPlan
    summary: LoweringSummary
