"""The first pass over a tensor and its reference: sums, rows and channels, non-finite elements, peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.blocks import ONES, Block, Floats, Layout, Pair, total
from harness.metrics import Group, NonFinite

Peak = tuple[float, float, int]


@dataclass
class Groups:
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


def _groups(axis: int | None, count: int, size: int, bytes_held: int) -> Groups | None:
    if axis is None or size == count or count < 2 or 16 * count > max(bytes_held // 8, 1 << 20):
        return None
    return Groups(axis, size // count, np.zeros(count), np.zeros(count))


@dataclass
class Sums:
    """What the first pass finds over the elements that are finite on both sides.

    `d`, `r`, `dd`, `rr`: sums of |d|, |r| and their squares.  `peaks`: of each block the largest |d|, with
    |r| and the position there.  `odd`: elements that are not finite.
    """

    rows: Groups | None
    channels: Groups | None
    odd: Odd
    finite: int = 0
    d: float = 0.0
    r: float = 0.0
    dd: float = 0.0
    rr: float = 0.0
    peaks: list[Peak] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """mean|r|; NaN where no element is finite."""
        return self.r / self.finite if self.finite else math.nan

    @property
    def rms(self) -> float:
        """Root of the mean square of r; 0 where no element is finite."""
        return math.sqrt(self.rr / max(self.finite, 1))


def empty_sums(layout: Layout, bytes_held: int, *, channels: bool) -> Sums:
    """Sums to add blocks to; `bytes_held` by the two tensors bounds what rows and channels may take."""
    rows, across, inner = layout.view
    size = rows * across * inner
    return Sums(
        _groups(layout.batch_axis, rows, size, bytes_held),
        _groups(layout.channel_axis if channels else None, across, size, bytes_held),
        Odd(),
    )


def add_up(pair: Pair, bytes_held: int) -> Sums:
    """Pass over `pair` once; see `empty_sums`."""
    sums = empty_sums(pair.layout, bytes_held, channels=True)
    for block in pair.blocks():
        add_block(sums, pair, block)
    return sums


def add_block(sums: Sums, pair: Pair, block: Block) -> None:
    """Add a block that `pair` has loaded; what is not finite on either side becomes zero in its buffers."""
    d, size = pair.magnitude(pair.difference), block.stop - block.start
    if not math.isfinite(total(d)):
        sums.odd.add(pair, block)
        size -= pair.drop_non_finite()
        d = pair.magnitude(pair.difference)
    place = int(d.argmax())
    sums.peaks.append((float(d[place]), abs(float(pair.expected[place])), block.start + place))
    sums.finite += size
    sums.d += _sum_groups(sums, d, block, "d")
    sums.r += _sum_groups(sums, pair.magnitude(pair.expected), block, "r")
    sums.dd += float(np.dot(pair.difference, pair.difference))
    sums.rr += float(np.dot(pair.expected, pair.expected))


def _sum_groups(sums: Sums, values: Floats, block: Block, which: str) -> float:
    """The sum of a block's magnitudes, which are added to their rows and channels."""
    if not (sums.rows or sums.channels):
        return total(values)
    segments = _segments(values, block)
    if sums.rows:
        getattr(sums.rows, which)[block.row : block.row + block.rows] += segments @ ONES[: block.channels]
    if sums.channels:
        span = slice(block.channel, block.channel + block.channels)
        getattr(sums.channels, which)[span] += ONES[: block.rows] @ segments
    return float(segments.sum())


def _segments(values: Floats, block: Block) -> Floats:
    """Sums of `values` by row and channel of the block."""
    count = block.rows * block.channels
    if count == 1:
        return np.full((1, 1), total(values))
    inner = values.size // count
    sums = values if inner == 1 else values.reshape(count, inner) @ ONES[:inner]
    return sums.reshape(block.rows, block.channels)


class Odd:
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
