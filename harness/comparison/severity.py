"""How far a comparison is off in any of its parts, as one number beside the limit."""

from __future__ import annotations

import math

from harness.comparison.result import Fault, OutputsComparison


def severity(found: OutputsComparison) -> float:
    """The largest `mre`; where a bound is broken, as many times the limit as that bound is exceeded.

    At most the limit if and only if quality holds; infinite for wrong structure, NaN and infinities.
    """
    limit = found.tolerance.limit
    mres = [one.metrics.mre for one in found.comparisons if one.metrics is not None]
    faults = [*found.faults, *(fault for one in found.comparisons for fault in one.faults)]
    return max([0.0, *mres, *(limit * _excess(fault) for fault in faults)])


def _excess(fault: Fault) -> float:
    """How many times its bound a fault is, more than once."""
    if fault.kind not in ("mre", "row", "slice", "element", "unequal", "top1"):
        return math.inf
    ratio = fault.got / fault.allowed if fault.allowed else math.inf
    return math.inf if math.isnan(ratio) else max(ratio, math.nextafter(1.0, 2.0))
