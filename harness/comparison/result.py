"""What a comparison found, as data, and the two questions: quality and consistency.

`compare` makes these; `explain` puts them into words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from harness.comparison.equality import Equality
from harness.comparison.metrics import Group, Metrics
from harness.comparison.ranking import Ranking
from harness.precision import (
    ELEMENT_FACTOR,
    ROW_FACTOR,
    SLICE_FACTOR,
    SLICE_TOLD,
    UNIT_ROUNDOFF,
    Precision,
    Tolerance,
)

CONSISTENCY_FACTOR = 4.0
"""How many times the emulation's error an engine may show: the two round at different places."""
KERNELS_FACTOR = 2.0
"""How many times the `mre` of their emulation real 16-bit kernels show, nearly always (docs/verified.md)."""
THIN = 8.0
"""How many times worse off than its tensor a slice is that is told."""
SPREAD = {"unequal": 1.0, "row": ROW_FACTOR, "slice": SLICE_FACTOR, "element": ELEMENT_FACTOR}
"""How many times the mean error of a tensor its worst parts may show."""

FaultKind = Literal[
    "missing",
    "extra",
    "iterations",
    "shape",
    "empty",
    "kind",
    "nan",
    "+inf",
    "-inf",
    "unequal",
    "mre",
    "row",
    "slice",
    "element",
    "top1",
]
STRUCTURE = frozenset({"missing", "extra", "iterations", "shape", "empty", "kind"})
NON_FINITE = frozenset({"nan", "+inf", "-inf"})


@dataclass(frozen=True)
class Fault:
    """One reason why quality fails: what was got, what is allowed or expected, and where.

    `index` of `of` along `axis` names a row or slice.
    """

    kind: FaultKind
    got: Any = None
    allowed: Any = None
    index: tuple[int, ...] | int | None = None
    of: int | None = None
    axis: int | None = None


@dataclass(frozen=True)
class Allowed:
    """The bounds of quality: `mre` with its expected size, worst row, element and slice, shares."""

    mre: float
    expected: float
    row: float
    element: float
    slice: float
    unequal: float
    top1: float


@dataclass(frozen=True)
class Comparison:
    """One output against its reference.  `metrics` for floats, `equality` for exact comparisons, else None.

    `ranking` is there where floats look like scores.

    `emulation` is the same output of the emulation against the reference, if there is one, and
    `emulation_mre` its `mre` alone.
    """

    name: str
    precision: Precision
    tolerance: Tolerance
    allowed: Allowed
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str, str]
    faults: tuple[Fault, ...] = ()
    metrics: Metrics | None = None
    equality: Equality | None = None
    ranking: Ranking | None = None
    emulation: Comparison | None = None
    emulation_mre: float | None = None

    @property
    def quality(self) -> bool:
        """Whether the error is within what the user allows at this precision."""
        return not self.faults

    @property
    def mre(self) -> float:
        """The mean relative error; NaN where NaN or infinities differ, or nothing was compared by value."""
        odd = any(fault.kind in NON_FINITE for fault in self.faults)
        return math.nan if odd or self.metrics is None else self.metrics.mre

    @cached_property
    def explained_mre(self) -> float:
        """The largest `mre` that this precision explains."""
        known = self.emulation.mre if self.emulation is not None else self.emulation_mre
        base = self.tolerance.expected if known is None else known
        return math.inf if math.isnan(base) else CONSISTENCY_FACTOR * max(base, UNIT_ROUNDOFF[self.precision])

    @cached_property
    def consistency(self) -> bool:
        """Whether the error is no worse than this precision explains."""
        if any(fault.kind in STRUCTURE for fault in self.faults):
            return False
        small = self.metrics is None or not self.metrics.mre > self.explained_mre
        return small and all(_explained(fault, self) for fault in self.faults)

    @property
    def unusual(self) -> bool:
        """Whether quality holds but the error is above the field's order of magnitude."""
        return self.quality and self.metrics is not None and self.metrics.mre > self.tolerance.expected

    @property
    def close(self) -> bool:
        """Whether quality holds in an emulation of 16 bits, but may not on kernels that round elsewhere."""
        return (
            self.unusual and self.precision.half is not None and self.mre > self.allowed.mre / KERNELS_FACTOR
        )

    @property
    def thin(self) -> Group | None:
        """The worst slice where it passes but is far worse off than its tensor, whose `mre` hides it."""
        worst = self.metrics.worst_slice if self.quality and self.metrics else None
        if worst is None or self.metrics is None:
            return None
        least = max(SLICE_TOLD * self.allowed.slice, THIN * self.metrics.mre)
        return worst if worst.mre > least else None

    @property
    def empty(self) -> bool:
        """Whether there was nothing to compare."""
        return not self.faults and 0 in self.shapes[1]


@dataclass(frozen=True)
class OutputsComparison:
    """All outputs of one run, or of several iterations, against the reference."""

    precision: Precision
    tolerance: Tolerance
    comparisons: tuple[Comparison, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def quality(self) -> bool:
        """Whether the structure is right and every output passes."""
        return not self.faults and all(c.quality for c in self.comparisons)

    @property
    def consistency(self) -> bool:
        """Whether the structure is right and every output is consistent."""
        return not self.faults and all(c.consistency for c in self.comparisons)

    @property
    def mre(self) -> float:
        """The largest `mre` of the outputs compared by value; NaN if one is NaN, 0 if there are none.

        Exact comparisons have none, nor have outputs that are rightly empty: they are passed over.
        """
        valued = (c for c in self.comparisons if not c.empty)
        found = [c.mre for c in valued if c.metrics or (c.faults and c.equality is None)]
        return math.nan if any(math.isnan(m) for m in found) else max(found, default=0.0)

    @property
    def failed(self) -> tuple[Comparison, ...]:
        """The outputs whose quality fails."""
        return tuple(c for c in self.comparisons if not c.quality)

    def explained_by_itself(self) -> OutputsComparison:
        """The same where the engine is the emulation: whatever it shows, the precision explains."""
        comparisons = tuple(replace(one, emulation=one) for one in self.comparisons)
        return replace(self, comparisons=comparisons)


def _explained(fault: Fault, comparison: Comparison) -> bool:
    """Whether the emulation shows the same fault, about as large."""
    if fault.kind == "mre":
        return True
    if comparison.emulation is None:
        return _explained_by_mre(fault, comparison)
    return _shown_by(comparison.emulation, fault)


def _explained_by_mre(fault: Fault, comparison: Comparison) -> bool:
    known = comparison.emulation_mre
    if fault.kind == "top1":
        return False
    if fault.kind in NON_FINITE:
        return known is not None and not math.isfinite(known)
    return bool(fault.got <= SPREAD[fault.kind] * comparison.explained_mre)


def _shown_by(emulation: Comparison, fault: Fault) -> bool:
    if fault.kind in NON_FINITE:
        return any(other.kind in NON_FINITE for other in emulation.faults)
    if fault.kind == "top1":
        shown = emulation.ranking.share if emulation.ranking else 0.0
    elif fault.kind == "unequal":
        shown = emulation.equality.fraction if emulation.equality else 0.0
    elif emulation.metrics is None:
        return False
    else:
        shown = _shown(emulation.metrics, fault)
    return bool(fault.got <= CONSISTENCY_FACTOR * shown)


def _shown(metrics: Metrics, fault: Fault) -> float:
    """What the emulation shows of a worst row, slice or element."""
    if fault.kind == "element":
        return metrics.max
    groups = [metrics.local_row] if fault.kind == "row" else list(metrics.slices)
    return max((one.mre for one in groups if one and fault.axis in (None, one.axis)), default=0.0)
