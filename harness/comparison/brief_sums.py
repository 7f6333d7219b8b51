"""The one pass of a brief measurement: sums, peaks, the range of the reference, and a sample.

Tensors of float32, float16 and bfloat16 are measured in float32, some three times faster than in float64.
Each difference is rounded by at most 2^-24 of itself; at most 256 numbers are summed in one go, then such
sums, then blocks in float64, so that `mre` and `rel_l2` are within 1e-5 of their float64 values.  A block is
measured in float64 where float32 would not do: where a number or a sum is not finite, or squares are so small
that they vanish.  So is a tensor of any other dtype.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.comparison.blocks import BLOCK, Array, Block, Floats, Layout, Pair, Singles, as_single, blocks_of
from harness.comparison.error_sums import Groups, Sums, add_block, add_rows, brief_sums
from harness.comparison.value_range import Format, RangeSum, ValueRange

STEP = 1 << 16
"""Elements in a block: its two float32 buffers and what they are made from fit the second-level cache."""

SAMPLE = 1 << 14
LANES = 256
SMALL_SQUARE = 2.0**-100
"""Mean squares below this are left to float64: single ones may be below the smallest float32."""

_NARROW = ("float32", "float16", "bfloat16")
_ONES = np.ones(LANES, np.float32)


@dataclass(frozen=True)
class Brief:
    """What one pass finds; `at`, `d`, `r`: positions, |d| and |r| of about SAMPLE evenly spaced elements.

    Elements that are not finite are left out of the sample.
    """

    sums: Sums
    values: ValueRange
    at: NDArray[np.intp]
    d: Floats
    r: Floats


def survey(pair: Pair, tensors: tuple[Array, Array], number_format: Format) -> Brief:
    """Pass over `pair` of `tensors` once; `number_format` is that of the value range."""
    held = tensors[0].nbytes + tensors[1].nbytes
    run = _Pass(pair, brief_sums(pair.layout, held), RangeSum(number_format))
    narrow = all(array.dtype.name in _NARROW for array in tensors)
    for block in blocks_of(_merged(pair.layout, run.sums.rows), STEP):
        if not (narrow and run.single(block)):
            run.double(block)
    return Brief(run.sums, run.values.found(tensors[1].size), *run.sample.found())


def _merged(layout: Layout, rows: Groups | None) -> Layout:
    """The same walk with no channels, and no rows unless they are wanted: blocks are as large as can be."""
    count, size = layout.view[0] if rows else 1, math.prod(layout.view)
    return Layout((count, 1, size // count), 0)


@dataclass(frozen=True)
class _Found:
    """The sums of one block: |d|, |r| and their squares."""

    d: float
    r: float
    dd: float
    rr: float

    def trusted(self, size: int) -> bool:
        """Whether float32 could hold them, and every square that counts."""
        least = size * SMALL_SQUARE
        seen = (self.dd >= least or self.d == 0.0) and (self.rr >= least or self.r == 0.0)
        return seen and math.isfinite(self.d + self.r + self.dd + self.rr)


class _Sample:
    """Evenly spaced elements; the spacing is odd, so that it falls into no step with powers of two."""

    def __init__(self, size: int) -> None:
        self._spacing = max(1, size // SAMPLE) | 1
        self._at = np.arange(0, size, self._spacing)
        self._d, self._r = np.empty(self._at.size), np.empty(self._at.size)

    def places(self, block: Block) -> slice:
        """Where the sampled elements of a block are in it."""
        return slice(-block.start % self._spacing, block.stop - block.start, self._spacing)

    def add(self, block: Block, d: Array, r: Array) -> None:
        """Take a block's sampled |d| and |r|."""
        first = -(-block.start // self._spacing)
        self._d[first : first + d.size], self._r[first : first + r.size] = d, r

    def found(self) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Positions, |d| and |r| of those that are finite."""
        finite = np.isfinite(self._d) & np.isfinite(self._r)
        return self._at[finite], self._d[finite], self._r[finite]


class _Pass:
    """Measures block by block, in float32 or in float64."""

    def __init__(self, pair: Pair, sums: Sums, values: RangeSum) -> None:
        size = math.prod(pair.layout.view)
        self.pair, self.sums, self.values, self.sample = pair, sums, values, _Sample(size)
        self._lines = np.empty((2, -(-min(STEP, size) // LANES), LANES), np.float32)
        self._d, self._r = self._lines.reshape(2, -1)

    def single(self, block: Block) -> bool:
        """Measure a block in float32; False, and nothing is kept, where that would not do."""
        size = block.stop - block.start
        d, r = self._load(block, size)
        found = self._found(size)
        if not found.trusted(size):
            return False
        place = int(d.argmax())
        self.sums.peaks.append((float(d[place]), float(r[place]), block.start + place))
        self._add(block, found, d, r)
        self.values.add(r)
        places = self.sample.places(block)
        self.sample.add(block, d[places], r[places])
        return True

    def _load(self, block: Block, size: int) -> tuple[Singles, Singles]:
        """|d| and |r| of a block, in the buffers."""
        d, r = self._d[:size], self._r[:size]
        actual, expected = self.pair.read(block)
        expected = as_single(expected, r)
        np.subtract(as_single(actual, d), expected, out=d)
        return np.abs(d, out=d), np.abs(expected, out=r)

    def _found(self, size: int) -> _Found:
        """Sums line by line: short enough to lose no digits, and for BLAS to start no threads."""
        lines = -(-size // LANES)
        self._d[size : lines * LANES] = self._r[size : lines * LANES] = 0.0
        both, ones = self._lines[:, :lines], _ONES[:lines]
        plain, squared = (np.vecdot(np.vecdot(both, other), ones).tolist() for other in (_ONES, both))
        return _Found(*plain, *squared)

    def _add(self, block: Block, found: _Found, d: Singles, r: Singles) -> None:
        self.sums.finite += d.size
        self.sums.d += found.d
        self.sums.r += found.r
        self.sums.dd += found.dd
        self.sums.rr += found.rr
        if rows := self.sums.rows:
            span = slice(block.row, block.row + block.rows)
            rows.d[span] += found.d if block.rows == 1 else d.reshape(block.rows, -1).sum(axis=1)
            rows.r[span] += found.r if block.rows == 1 else r.reshape(block.rows, -1).sum(axis=1)

    def double(self, block: Block) -> None:
        """Measure a block in float64, in smaller ones."""
        for part in _parts(block):
            actual, expected = self.pair.read(part)
            self.values.add(np.abs(expected.astype(np.float64)))
            places = self.sample.places(part)
            o, r = (values[places].astype(np.float64) for values in (actual, expected))
            self.sample.add(part, np.abs(o - r), np.abs(r))
            self.pair.load(part)
            add_block(self.sums, self.pair, part)
            if self.sums.rows:
                add_rows(self.sums.rows, part, self.pair.room)


def _parts(block: Block) -> Iterator[Block]:
    """A block, of one channel a row, in blocks of BLOCK elements."""
    length = (block.stop - block.start) // block.rows
    for part in blocks_of(Layout((block.rows, 1, length), 0), BLOCK):
        start, stop = block.start + part.start, block.start + part.stop
        yield replace(part, start=start, stop=stop, row=block.row + part.row)
