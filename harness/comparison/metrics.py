"""The error metrics of one tensor against its reference, as data.

With `d = actual - expected` and `r = expected`, in float64, over the elements that are finite on both sides:

    mre        sum|d| / sum|r|; absolute, mean|d| / scale, where mean|r| is below a declared scale
    rel_l2     ||d|| / ||r||,  snr_db = -20 log10(rel_l2)
    local      e = |d| / max(|r|, m), m = max(mean|r|, scale): p99, p99.9 (exact order statistics), max
    rows       mre of each batch row and of each channel: the largest; and for rows also with mean|r| of
               the tensor as least denominator (`local_row`), so that an empty row is no alarm
    slices     along each axis the slice that is furthest off its own size, see `slices`
    violations share of elements with |d| > atol + rtol |r|,  atol = rtol rms(r) unless given

A reference that is all zero, with no scale, has mre 0 if every difference is 0 and infinity otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.comparison.value_range import ValueRange


@dataclass(frozen=True)
class Element:
    """The element with the largest local error: where, both values, the error."""

    index: tuple[int, ...]
    actual: float
    expected: float
    error: float


@dataclass(frozen=True)
class Group:
    """The worst of `count` slices along `axis`: its index and its `mre`."""

    axis: int
    index: int
    count: int
    mre: float


@dataclass(frozen=True)
class NonFinite:
    """Elements that are `what` (nan, +inf, -inf) on one side only: how many, and the first."""

    what: str
    count: int
    index: tuple[int, ...]
    actual: float
    expected: float


@dataclass(frozen=True)
class Metrics:
    """The metrics of the module's docstring; `size` counts elements, `finite` those compared by value.

    A brief measurement estimates p99, p99.9, `violations` and `worst`, see `measure_error`; it alone tells
    `values`, the range of the reference.
    `elementwise_mean` is the mean of |d|/|r|, which diverges near zero: never judged by, NaN if left out.
    """

    size: int
    finite: int
    mean_abs: float
    mre: float
    absolute: bool
    rel_l2: float
    snr_db: float
    p99: float
    p999: float
    worst: Element | None
    worst_row: Group | None
    local_row: Group | None
    worst_channel: Group | None
    violations: float
    atol: float
    rtol: float
    elementwise_mean: float
    non_finite: tuple[NonFinite, ...] = ()
    values: ValueRange | None = None
    slices: tuple[Group, ...] = ()

    @property
    def worst_slice(self) -> Group | None:
        """The worst of `slices`."""
        return max(self.slices, key=lambda group: group.mre, default=None)

    @property
    def max(self) -> float:
        """The largest local error."""
        return self.worst.error if self.worst else 0.0


def ratio(error: float, size: float) -> float:
    """`error / size`; an error of 0 is 0 whatever the size, and anything against 0 is infinite."""
    if size == 0.0:
        return 0.0 if error == 0.0 else math.inf if error == error else math.nan
    return error / size


def decibels(rel_l2: float) -> float:
    """Signal to noise ratio of a relative L2 error, in dB."""
    if math.isnan(rel_l2):
        return math.nan
    return -20.0 * math.log10(rel_l2) if rel_l2 else math.inf
