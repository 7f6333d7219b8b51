"""Measuring the error of a tensor against its reference in at most two passes and bounded memory.

The first pass finds the sums and the non-finite elements, the second what needs mean|r|.  Memory beyond the
tensors: five buffers of 8,192 elements, the largest 1 % of the local errors twice over, and two sums a row
and a channel; rows or channels whose sums would take more than an eighth of the tensors (and 1 MiB) are
left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.blocks import ONES, Array, Block, Floats, Layout, Pair, layout_of, total
from harness.local_error import LocalErrors
from harness.metrics import Element, Group, Metrics, NonFinite, decibels, ratio

P99, P999 = 0.99, 0.999
TINY = float(np.finfo(np.float64).tiny)


@dataclass
class Sums:
    """What the first pass adds up; `finite` counts elements."""

    finite: int = 0
    d: float = 0.0
    r: float = 0.0
    dd: float = 0.0
    rr: float = 0.0


def measure_error(
    actual: Array,
    expected: Array,
    *,
    rtol: float,
    atol: float | None = None,
    scale: float | None = None,
    batch_axis: int | None = 0,
    brief: bool = False,
) -> Metrics:
    """The metrics of two float tensors of one shape; any layout, any real dtype.

    `rtol` and `atol` are for `violations`; `scale` is the least mean|r| that is judged relatively.  `brief`
    leaves out channels and the element-wise mean, a third of the work.
    """
    layout = layout_of(actual.shape, batch_axis)
    pair = Pair(actual, expected, layout)
    with np.errstate(all="ignore"):
        sums, odd = _first_pass(pair)
        mean = sums.r / sums.finite if sums.finite else math.nan
        unit = max(mean, scale or 0.0)
        atol = rtol * math.sqrt(sums.rr / max(sums.finite, 1)) if atol is None else atol
        bytes_held = actual.nbytes + expected.nbytes
        second = _Second(layout, sums.finite, unit, rtol, atol, bytes_held, bool(odd.first), brief)
        for block in pair.blocks():
            second.add(pair, block)
        second.local.finish()
    return _metrics(actual, expected, sums, mean, scale, second, odd)


def _first_pass(pair: Pair) -> tuple[Sums, _Odd]:
    sums, odd = Sums(), _Odd()
    for block in pair.blocks():
        d, size = pair.magnitude(pair.difference), block.stop - block.start
        if not math.isfinite(d):
            odd.add(pair, block)
            size -= pair.drop_non_finite()
            d = pair.magnitude(pair.difference)
        sums.finite += size
        sums.d += d
        sums.r += pair.magnitude(pair.expected)
        sums.dd += float(np.dot(pair.difference, pair.difference))
        sums.rr += float(np.dot(pair.expected, pair.expected))
    return sums, odd


def _metrics(
    actual: Array,
    expected: Array,
    sums: Sums,
    mean: float,
    scale: float | None,
    second: _Second,
    odd: _Odd,
) -> Metrics:
    absolute = scale is not None and mean < scale
    rel_l2 = ratio(math.sqrt(sums.dd), math.sqrt(sums.rr))
    rows, channels = second.rows, second.channels
    return Metrics(
        size=actual.size,
        finite=sums.finite,
        mean_abs=mean,
        mre=_mre(sums, scale if absolute else None),
        absolute=absolute,
        rel_l2=rel_l2,
        snr_db=decibels(rel_l2),
        p99=second.local.quantile(P99),
        p999=second.local.quantile(P999),
        worst=_worst(actual, expected, second),
        worst_row=rows.worst(0.0) if rows else None,
        local_row=rows.worst(second.unit * rows.elements) if rows else None,
        worst_channel=channels.worst(0.0) if channels else None,
        violations=second.violations / max(sums.finite, 1),
        atol=second.atol,
        rtol=second.rtol,
        elementwise_mean=math.nan if second.brief else second.quotients / max(sums.finite, 1),
        non_finite=odd.found(second.layout),
    )


def _worst(actual: Array, expected: Array, second: _Second) -> Element | None:
    if second.local.error < 0.0:
        return None
    index = second.layout.index(second.local.position)
    return Element(index, float(actual[index]), float(expected[index]), second.local.error)


def _mre(sums: Sums, scale: float | None) -> float:
    if not sums.finite:
        return math.nan
    return ratio(sums.d, sums.r if scale is None else scale * sums.finite)


@dataclass
class _Groups:
    """Sums of |d| and |r| for every row, or every channel."""

    axis: int
    elements: int
    d: Floats
    r: Floats

    def worst(self, floor: float) -> Group:
        with np.errstate(all="ignore"):
            quotient = self.d / np.maximum(self.r, floor)
        quotient[self.d == 0.0] = 0.0
        index = int(np.argmax(quotient))
        return Group(self.axis, index, self.d.size, float(quotient[index]))


def _groups(axis: int | None, count: int, size: int, bytes_held: int) -> _Groups | None:
    if axis is None or size == count or count < 2 or 16 * count > max(bytes_held // 8, 1 << 20):
        return None
    return _Groups(axis, size // count, np.zeros(count), np.zeros(count))


@dataclass
class _Second:
    """The second pass: local errors, violations, rows and channels, one block at a time."""

    layout: Layout
    finite: int
    unit: float
    rtol: float
    atol: float
    bytes_held: int
    careful: bool
    brief: bool = False
    violations: int = 0
    quotients: float = 0.0

    def __post_init__(self) -> None:
        rows, channels, inner = self.layout.view
        size = rows * channels * inner
        self.local = LocalErrors(self.finite, 1.0 - P99, self.unit)
        self.rows = _groups(self.layout.batch_axis, rows, size, self.bytes_held)
        channel_axis = None if self.brief else self.layout.channel_axis
        self.channels = _groups(channel_axis, channels, size, self.bytes_held)

    def add(self, pair: Pair, block: Block) -> None:
        """Take one loaded block into account; its difference and reference become magnitudes."""
        if self.careful:
            pair.drop_non_finite()
        d = np.abs(pair.difference, out=pair.difference)
        r = np.abs(pair.expected, out=pair.expected)
        self.local.add(d, r, block.start)
        if self.rows or self.channels:
            self._group_sums(d, r, block)
        self._violations(d, r)
        if not self.brief:
            np.divide(d, np.add(r, TINY, out=pair.spare), out=pair.spare)
            self.quotients += total(pair.spare)

    def _violations(self, d: Floats, r: Floats) -> None:
        at = np.flatnonzero(d > self.atol)
        if at.size:
            self.violations += int(np.count_nonzero(d[at] > self.atol + self.rtol * r[at]))

    def _group_sums(self, d: Floats, r: Floats, block: Block) -> None:
        for values, which in ((d, "d"), (r, "r")):
            segments = self._segments(values, block)
            if self.rows:
                getattr(self.rows, which)[block.row : block.row + block.rows] += (
                    segments @ ONES[: block.channels]
                )
            if self.channels:
                sums = getattr(self.channels, which)
                sums[block.channel : block.channel + block.channels] += ONES[: block.rows] @ segments

    def _segments(self, values: Floats, block: Block) -> Floats:
        """Sums of `values` by row and channel of the block."""
        count = block.rows * block.channels
        if count == 1:
            return np.full((1, 1), total(values))
        inner = values.size // count
        sums = values if inner == 1 else values.reshape(count, inner) @ ONES[:inner]
        return sums.reshape(block.rows, block.channels)


class _Odd:
    """Elements that are NaN or infinite on one side only, by kind; remembers also whether any were seen."""

    KINDS = ("nan", "+inf", "-inf")

    def __init__(self) -> None:
        self.first: dict[str, tuple[int, float, float]] = {}
        self.count: dict[str, int] = dict.fromkeys(self.KINDS, 0)

    def add(self, pair: Pair, block: Block) -> None:
        """Look for the kinds in one loaded block."""
        for kind in self.KINDS:
            apart = np.flatnonzero(_is(kind, pair.actual) != _is(kind, pair.expected))
            self.count[kind] += apart.size
            place = int(apart[0]) if apart.size else 0
            here = (block.start + place, float(pair.actual[place]), float(pair.expected[place]))
            if kind not in self.first or (apart.size and self.count[kind] == apart.size):
                self.first[kind] = here

    def found(self, layout: Layout) -> tuple[NonFinite, ...]:
        """The kinds whose positions differ."""
        return tuple(
            NonFinite(kind, self.count[kind], layout.index(position), actual, expected)
            for kind, (position, actual, expected) in self.first.items()
            if self.count[kind]
        )


def _is(kind: str, values: Floats) -> Any:
    return np.isnan(values) if kind == "nan" else values == float(kind)
