"""Precisions, precision plans, and the one tolerance table."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from types import MappingProxyType


class Precision(StrEnum):
    """What an engine computes in; the value is the word used in specs, options and reports."""

    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT8_FP16 = "int8+fp16"

    @property
    def quantized(self) -> bool:
        """Whether weights and activations of weighted nodes are INT8."""
        return self in (Precision.INT8, Precision.INT8_FP16)

    @property
    def half(self) -> Precision | None:
        """The 16-bit type that unquantized nodes compute in, if any."""
        if self is Precision.INT8_FP16:
            return Precision.FP16
        return self if self in (Precision.FP16, Precision.BF16) else None


@dataclass(frozen=True)
class Tolerance:
    """Bounds on the mean relative error: above `expected` a warning, above `limit` a failure.

    `row`, `element` and `slice` bound the worst row, element and slice; None leaves them to follow from
    `limit` by the factors and ceilings below.  `top1` is the share of decided lines of scores that may choose
    another class (see `ranking`).
    """

    expected: float
    limit: float
    row: float | None = None
    element: float | None = None
    slice: float | None = None
    top1: float = 0.05

    def strict(self) -> Tolerance:
        """The same with `expected` as the limit (`--trt-strict`)."""
        return replace(self, limit=self.expected)


_INT8 = Tolerance(2e-2, 1e-1)
TOLERANCES: Mapping[Precision, Tolerance] = MappingProxyType(
    {
        Precision.FP32: Tolerance(1e-6, 5e-6),
        Precision.TF32: Tolerance(1e-3, 5e-3),
        Precision.FP16: Tolerance(1e-3, 5e-3),
        Precision.BF16: Tolerance(8e-3, 4e-2),
        Precision.INT8: _INT8,
        Precision.INT8_FP16: _INT8,
    }
)

ROW_FACTOR, ROW_CEILING = 10.0, 0.5
"""How many limits the worst row may be off, and at most what share of the mean size."""
SLICE_FACTOR, SLICE_CEILING = 10.0, 0.5
"""The same for the worst slice along any axis, as a share of its own size (docs/tolerances.md)."""
ELEMENT_FACTOR, ELEMENT_CEILING = 50.0, 1.0
"""The same for the worst element; the ceiling does not hold where something is quantized."""
SLICE_TOLD = 0.2
"""From what share of its bound on the worst slice is told, where it is far worse than its tensor."""

UNIT_ROUNDOFF: Mapping[Precision, float] = MappingProxyType(
    {
        Precision.FP32: 2.0**-24,
        Precision.TF32: 2.0**-11,
        Precision.FP16: 2.0**-11,
        Precision.BF16: 2.0**-8,
        Precision.INT8: 2.0**-8,
        Precision.INT8_FP16: 2.0**-8,
    }
)
"""Half the distance from 1 to the next number of the format; for INT8, half a code of a full range."""


@dataclass(frozen=True)
class PrecisionPlan:
    """A base precision and the nodes that stay FP32 all the same.

    `fp32_nodes` are globs over ONNX node names (a pattern equal to a name always matches it, whatever
    characters it has); `fp32_op_types` are ONNX op types.  Under INT8 a node kept is not quantized either.
    """

    precision: Precision
    fp32_nodes: tuple[str, ...] = ()
    fp32_op_types: tuple[str, ...] = ()

    def keeps(self, name: str, op_type: str) -> bool:
        """Whether the plan leaves the node `name` of type `op_type` in FP32."""
        return op_type in self.fp32_op_types or any(matches(p, name) for p in self.fp32_nodes)

    def unmatched(self, nodes: Iterable[tuple[str, str]]) -> list[str]:
        """The patterns and op types that match none of `nodes`, pairs of name and op type."""
        pairs = list(nodes)
        types = {op_type for _, op_type in pairs}
        lost = [p for p in self.fp32_nodes if not any(matches(p, name) for name, _ in pairs)]
        return lost + [t for t in self.fp32_op_types if t not in types]

    def with_fp32_nodes(self, names: Iterable[str]) -> PrecisionPlan:
        """The same plan with exactly `names` kept, and no op types."""
        return PrecisionPlan(self.precision, tuple(sorted(names)))

    def digest(self) -> str:
        """SHA-256, in hex, of what the plan says."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        kept = len(self.fp32_nodes) + len(self.fp32_op_types)
        return f"{self.precision}, {kept} FP32 patterns" if kept else str(self.precision)


def matches(pattern: str, name: str) -> bool:
    """Whether the glob `pattern` matches `name`, taken literally first (names may have brackets)."""
    return pattern == name or fnmatch.fnmatchcase(name, pattern)
