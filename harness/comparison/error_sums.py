"""The first pass over a tensor and its reference: sums, slices, non-finite elements, peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.comparison.blocks import Block, Floats, Layout, Pair
from harness.comparison.buffers import ONES, Buffers
from harness.comparison.local_error import Sample
from harness.comparison.metrics import Group, NonFinite
from harness.comparison.slices import Slices

Peak = tuple[float, float, int]


@dataclass
class Groups:
    """Sums for every row: of |d| and of |r|, as the two rows of `both`."""

    axis: int
    elements: int
    both: Floats

    @property
    def d(self) -> Floats:
        """The sums of |d|."""
        sums: Floats = self.both[0]
        return sums

    @property
    def r(self) -> Floats:
        """The sums of |r|."""
        sums: Floats = self.both[1]
        return sums

    def worst(self, floor: float) -> Group:
        """The group with the largest sum|d| / max(sum|r|, floor)."""
        quotient = self.d / (np.maximum(self.r, floor) if floor else self.r)
        quotient[self.d == 0.0] = 0.0
        index = int(quotient.argmax())
        return Group(self.axis, index, quotient.size, quotient.item(index))


def _groups(axis: int | None, count: int, size: int, bytes_held: int) -> Groups | None:
    if axis is None or size == count or count < 2 or 16 * count > max(bytes_held // 8, 1 << 20):
        return None
    return Groups(axis, size // count, np.zeros((2, count)))


@dataclass
class Sums:
    """What the first pass finds over the elements that are finite on both sides.

    `d`, `r`, `dd`, `rr`: sums of |d|, |r| and their squares.  `peaks`: of each block the largest |d|, with
    |r| and the position there.  `odd`: elements that are not finite.  `rows`: of a brief measurement only.
    """

    rows: Groups | None
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


def brief_sums(layout: Layout, bytes_held: int) -> Sums:
    """Sums to add blocks to, by rows; `bytes_held` by the two tensors bounds what they may take."""
    return Sums(_groups(layout.batch_axis, layout.view[0], math.prod(layout.view), bytes_held), Odd())


def add_up(pair: Pair, slices: Slices) -> tuple[Sums, Sample]:
    """Pass over `pair` once: sums, also those of `slices`, and a sample."""
    sums, sample = Sums(None, Odd()), Sample(pair.size)
    for block in pair.blocks():
        add_block(sums, pair, block)
        sample.add(pair.room, block.start)
        slices.add(pair.room)
    slices.finish()
    return sums, sample


def add_block(sums: Sums, pair: Pair, block: Block) -> None:
    """Add a block that `pair` has loaded; what is not finite on either side becomes zero in its buffers."""
    room, size = pair.room, block.stop - block.start
    d, r = room.totals()
    if not math.isfinite(d):
        sums.odd.add(pair, block)
        size -= pair.drop_non_finite(block)
        d, r = room.totals()
    place = int(room.d.argmax())
    sums.peaks.append((room.d.item(place), room.r.item(place), block.start + place))
    dd, rr = room.squares()
    sums.finite += size
    sums.d += d
    sums.r += r
    sums.dd += dd
    sums.rr += rr


def add_rows(rows: Groups, block: Block, room: Buffers) -> None:
    """Add the rows of a block that is in `room`."""
    if block.rows == block.channels == 1:
        rows.both[:, block.row] += room.totals()
    else:
        segments = room.segments(block.rows, block.channels)
        rows.both[:, block.row : block.row + block.rows] += segments @ ONES[: block.channels]


class Odd:
    """Elements that are NaN or infinite on one side only, by kind; remembers also whether any were seen."""

    KINDS = ("nan", "+inf", "-inf")

    def __init__(self) -> None:
        self.first: dict[str, tuple[int, float, float]] = {}
        self.count: dict[str, int] = dict.fromkeys(self.KINDS, 0)
        self.starts: set[int] = set()

    def add(self, pair: Pair, block: Block) -> None:
        """Look for the kinds in one loaded block."""
        actual, expected = pair.signed(block)
        self.starts.add(block.start)
        for kind in self.KINDS:
            apart = np.flatnonzero(_is(kind, actual) != _is(kind, expected))
            self.count[kind] += apart.size
            place = int(apart[0]) if apart.size else 0
            here = (block.start + place, float(actual[place]), float(expected[place]))
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
