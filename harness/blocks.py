"""Walking two tensors side by side in blocks that stay in the processor's cache.

A tensor is seen as (rows, channels, inner): rows along the batch axis, channels along the next axis, inner
all the rest.  Every block is a contiguous stretch of the row-major order of that view, and holds whole
rows, or whole channels of one row, or a part of one channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 8192
"""Elements in a block: three float64 buffers fit the cache, and BLAS starts no threads for so few."""

_SIGN_AND_HALF = np.int32(-0x70002000)
"""The bits of a float32 that a float16, moved 13 bits up and sign-extended, fills rightly."""

Array = NDArray[Any]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


ONES = np.ones(BLOCK)


def total(values: Floats) -> float:
    """The sum of at most BLOCK values, by BLAS, twice as fast as NumPy's own."""
    return float(np.dot(values, ONES[: values.size]))


@dataclass(frozen=True)
class Layout:
    """How the axes of `shape` count as rows, channels and the rest; `batch_axis` None is one row."""

    shape: tuple[int, ...]
    batch_axis: int | None

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The axes in the order they are walked: batch axis first."""
        rest = [axis for axis in range(len(self.shape)) if axis != self.batch_axis]
        return tuple(rest if self.batch_axis is None else [self.batch_axis, *rest])

    @cached_property
    def view(self) -> tuple[int, int, int]:
        """Numbers of rows, of channels in a row, of elements in a channel."""
        sizes = [self.shape[axis] for axis in self.axes]
        rows = 1 if self.batch_axis is None else sizes.pop(0)
        return rows, sizes[0] if sizes else 1, math.prod(sizes[1:])

    @property
    def channel_axis(self) -> int | None:
        """The first axis that is not the batch axis."""
        rest = [axis for axis in self.axes if axis != self.batch_axis]
        return rest[0] if rest else None

    def index(self, position: int) -> tuple[int, ...]:
        """The index, in the tensor's own axes, of the element at `position` of the walk."""
        found = np.unravel_index(position, tuple(self.shape[axis] for axis in self.axes))
        by_axis = dict(zip(self.axes, (int(i) for i in found), strict=True))
        return tuple(by_axis[axis] for axis in range(len(self.shape)))


def layout_of(shape: tuple[int, ...], batch_axis: int | None) -> Layout:
    """The layout of `shape`; a batch axis that it does not have counts as none."""
    if batch_axis is not None and not -len(shape) <= batch_axis < len(shape):
        batch_axis = None
    return Layout(shape, None if batch_axis is None else batch_axis % len(shape))


@dataclass(frozen=True)
class Block:
    """Positions `start` to `stop` of the walk: `rows` x `channels` whole segments, or a part of one."""

    start: int
    stop: int
    row: int
    rows: int
    channel: int
    channels: int


def blocks_of(layout: Layout, block: int = BLOCK) -> Iterator[Block]:
    """The blocks of a layout, in order, each of at most `block` elements."""
    rows, channels, inner = layout.view
    length = channels * inner
    if not rows * length:
        return
    if length <= block:
        yield from _whole_rows(rows, channels, length, block // length)
    elif inner <= block:
        for row in range(rows):
            yield from _whole_channels(row, channels, inner, block // inner)
    else:
        for segment in range(rows * channels):
            yield from _parts(segment, channels, inner, block)


def _whole_rows(rows: int, channels: int, length: int, step: int) -> Iterator[Block]:
    for row in range(0, rows, step):
        count = min(step, rows - row)
        yield Block(row * length, (row + count) * length, row, count, 0, channels)


def _whole_channels(row: int, channels: int, inner: int, step: int) -> Iterator[Block]:
    base = row * channels * inner
    for channel in range(0, channels, step):
        count = min(step, channels - channel)
        start = base + channel * inner
        yield Block(start, start + count * inner, row, 1, channel, count)


def _parts(segment: int, channels: int, inner: int, block: int) -> Iterator[Block]:
    row, channel = divmod(segment, channels)
    base = segment * inner
    for start in range(0, inner, block):
        stop = min(start + block, inner)
        yield Block(base + start, base + stop, row, 1, channel, 1)


class Walk:
    """A tensor's elements in the order of a layout, read by stretches; never copied whole."""

    def __init__(self, array: Array, layout: Layout) -> None:
        moved = array.transpose(layout.axes)
        self._flat: Any = moved.reshape(-1) if moved.flags.c_contiguous else moved.flat

    def read(self, start: int, stop: int) -> Array:
        """The elements `start` to `stop`: a view where the memory is in order, else a small copy."""
        stretch: Array = self._flat[start:stop]
        return stretch


def to_double(values: Array, target: Floats) -> None:
    """Write `values`, of any real dtype, into `target`."""
    if _finite_halves(values):
        np.copyto(target, _widened(values, np.empty(values.size, np.float32)))
    else:
        np.copyto(target, values, casting="unsafe")


def as_single(values: Array, room: Singles) -> Singles:
    """`values` as float32: themselves if they are, else written into `room`, of as many elements."""
    if values.dtype == np.float32:
        return values
    if _finite_halves(values):
        return _widened(values, room)
    np.copyto(room, values, casting="unsafe")
    return room


def _widened(halves: Array, room: Singles) -> Singles:
    """Finite float16 numbers as float32, in `room`.

    NumPy converts float16 by branching on each number, up to nine times slower where signs and zeros mix;
    moving the bits of finite numbers to their places in float32 and scaling them is exact.
    """
    bits = room.view(np.int32)
    np.copyto(bits, halves.view(np.int16))
    bits <<= 13
    bits &= _SIGN_AND_HALF
    room *= np.float32(2.0**112)
    return room


def _finite_halves(values: Array) -> bool:
    return values.dtype == np.float16 and values.flags.c_contiguous and _all_finite(values)


def _all_finite(halves: Array) -> bool:
    magnitudes = halves.view(np.uint16) & np.uint16(0x7FFF)
    return bool(magnitudes.max() < 0x7C00)


class Pair:
    """Two tensors of one shape, loaded block by block into float64 buffers.

    While a block is visited, `actual`, `expected` and `difference` hold its elements and `spare` is room for
    as many; all are views of buffers that the next block overwrites.
    """

    def __init__(self, actual: Array, expected: Array, layout: Layout) -> None:
        size = max(1, min(BLOCK, actual.size))
        self._walks = Walk(actual, layout), Walk(expected, layout)
        self._buffers = tuple(np.empty(size, np.float64) for _ in range(4))
        self._loaded: Block | None = None
        self.layout = layout

    def blocks(self) -> Iterator[Block]:
        """The blocks, each loaded when it is yielded; a lone block is loaded once for all visits."""
        for block in blocks_of(self.layout):
            if block != self._loaded:
                self.load(block)
            yield block

    def load(self, block: Block) -> None:
        """Fill the buffers with a block, of at most BLOCK elements."""
        size = block.stop - block.start
        self.actual, self.expected, self.difference, self.spare = (b[:size] for b in self._buffers)
        for walk, buffer in zip(self._walks, (self.actual, self.expected), strict=True):
            to_double(walk.read(block.start, block.stop), buffer)
        np.subtract(self.actual, self.expected, out=self.difference)
        self._loaded = block

    def magnitude(self, values: Floats) -> Floats:
        """|values|, in `spare`."""
        return np.abs(values, out=self.spare)

    def read(self, block: Block) -> tuple[Array, Array]:
        """The block's elements of both tensors, in their own dtypes."""
        actual, expected = (walk.read(block.start, block.stop) for walk in self._walks)
        return actual, expected

    def drop_non_finite(self) -> int:
        """Set to zero what is NaN or infinite on either side of the block; returns how many there were."""
        bad = ~(np.isfinite(self.actual) & np.isfinite(self.expected))
        for buffer in (self.actual, self.expected, self.difference):
            buffer[bad] = 0.0
        return int(np.count_nonzero(bad))
