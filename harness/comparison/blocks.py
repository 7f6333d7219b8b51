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

from harness.comparison.buffers import LARGEST, WIDTH, Buffers

BLOCK = 8192
"""Elements in a block, unless something else is asked for."""

OTHERS = 1 << 18
"""Bytes that a comparison needs beside its buffers, about."""

SMALLEST = 1024
"""Elements in a block of a pair, at least: fewer cost more calls than work."""

_SIGN_AND_HALF = np.int32(-0x70002000)
"""The bits of a float32 that a float16, moved 13 bits up and sign-extended, fills rightly."""
_SCALE = np.float32(2.0**112)
"""Between the exponents of the two, read from the same bits."""

Array = NDArray[Any]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


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


@dataclass(frozen=True, slots=True)
class Block:
    """Positions `start` to `stop` of the walk: `rows` x `channels` whole segments, or a part of one."""

    start: int
    stop: int
    row: int
    rows: int
    channel: int
    channels: int


def blocks_of(layout: Layout, block: int = BLOCK) -> Iterator[Block]:
    """The blocks of a layout, in order, of at most `block` elements and much the same size."""
    rows, channels, inner = layout.view
    length = channels * inner
    if not rows * length:
        return
    if length <= block:
        yield from _whole_rows(rows, channels, length, block)
    elif inner <= block:
        for row in range(rows):
            yield from _whole_channels(row, channels, inner, block)
    else:
        for segment in range(rows * channels):
            yield from _parts(segment, channels, inner, block)


def _whole_rows(rows: int, channels: int, length: int, block: int) -> Iterator[Block]:
    for row, count in _shares(rows, block // length):
        yield Block(row * length, (row + count) * length, row, count, 0, channels)


def _whole_channels(row: int, channels: int, inner: int, block: int) -> Iterator[Block]:
    base = row * channels * inner
    for channel, count in _shares(channels, block // inner):
        start = base + channel * inner
        yield Block(start, start + count * inner, row, 1, channel, count)


def _parts(segment: int, channels: int, inner: int, block: int) -> Iterator[Block]:
    row, channel = divmod(segment, channels)
    for start, count in _shares(inner, block, segment * inner):
        yield Block(start, start + count, row, 1, channel, 1)


def _shares(count: int, most: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """`count` things from `start` on in as few shares of at most `most` as will do: first, and how many."""
    step = -(-count // -(-count // most))
    for first in range(0, count, step):
        yield start + first, min(step, count - first)


class Walk:
    """A tensor's elements in the order of a layout, read by stretches; never copied whole."""

    def __init__(self, array: Array, layout: Layout) -> None:
        moved = array.transpose(layout.axes)
        self._flat: Any = moved.reshape(-1) if moved.flags.c_contiguous else moved.flat

    def read(self, start: int, stop: int) -> Array:
        """The elements `start` to `stop`: a view where the memory is in order, else a small copy."""
        stretch: Array = self._flat[start:stop]
        return stretch


def to_double(values: Array, target: Floats, room: Singles) -> None:
    """Write `values`, of any real dtype, into `target`; `room` is for as many."""
    np.copyto(target, _widened(values, room) if _finite_halves(values) else values, casting="unsafe")


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
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _SIGN_AND_HALF, out=bits)
    return np.multiply(room, _SCALE, out=room)


def _finite_halves(values: Array) -> bool:
    """Whether these are float16 numbers, none of them infinite or NaN: by the largest of either sign."""
    if values.dtype != np.float16 or not values.flags.c_contiguous:
        return False
    signed, unsigned = values.view(np.int16), values.view(np.uint16)
    return signed.item(signed.argmax()) < 0x7C00 and unsigned.item(unsigned.argmax()) < 0xFC00


def _step(size: int, nbytes: int) -> int:
    """Elements in a block: all of a small tensor, else what keeps the buffers to a sixth of the tensors."""
    return LARGEST if size <= LARGEST else min(LARGEST, max(SMALLEST, (nbytes - OTHERS) // (6 * WIDTH)))


class Pair:
    """Two tensors of one shape, loaded block by block: |actual - expected| and |expected|, as float64.

    While a block is visited, `room.d` and `room.r` hold the two, and `room.spare` is free.
    """

    def __init__(self, actual: Array, expected: Array, layout: Layout) -> None:
        self._walks = Walk(actual, layout), Walk(expected, layout)
        self._loaded = (0, 0)
        self.layout, self.size, self.nbytes = layout, actual.size, actual.nbytes + expected.nbytes
        self.step = _step(self.size, self.nbytes)
        self.room = Buffers()

    def blocks(self) -> Iterator[Block]:
        """The blocks, each loaded when it is yielded; a lone block is loaded once for all visits."""
        for block in blocks_of(self.layout, self.step):
            if self._loaded != (block.start, block.stop):
                self.load(block)
            yield block

    def load(self, block: Block) -> None:
        """Fill the buffers with a block, of at most LARGEST elements."""
        room, size = self.room, block.stop - block.start
        if size != room.size:
            room.resize(size)
        actual, expected = self.read(block)
        if actual.dtype == expected.dtype == np.float64:
            np.subtract(actual, expected, out=room.d)
            np.copyto(room.r, expected)
        else:
            to_double(actual, room.d, room.single)
            to_double(expected, room.r, room.single)
            np.subtract(room.d, room.r, out=room.d)
        np.abs(room.both, out=room.both)
        self._loaded = block.start, block.stop

    def read(self, block: Block) -> tuple[Array, Array]:
        """The block's elements of both tensors, in their own dtypes."""
        actual, expected = self._walks
        return actual.read(block.start, block.stop), expected.read(block.start, block.stop)

    def signed(self, block: Block) -> tuple[Floats, Floats]:
        """The block's elements of both tensors as float64, in arrays of their own."""
        actual, expected = self.read(block)
        return actual.astype(np.float64), expected.astype(np.float64)

    def drop_non_finite(self, block: Block) -> int:
        """Set to zero what is NaN or infinite on either side of the loaded block; returns how many are."""
        actual, expected = self.signed(block)
        bad = ~(np.isfinite(actual) & np.isfinite(expected))
        self.room.both[:, bad] = 0.0
        return int(np.count_nonzero(bad))
