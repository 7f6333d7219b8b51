"""Every slice of a tensor along every axis: its error relative to its own size, from one pass.

A slice is the sub-tensor at one index of one axis.  Its error is mean|d| / max(mean|r|, floor), means over
the slice.  The floor keeps slices quiet that are next to nothing beside their kind, where all is rounding:

    floor   max(scale, SHARE * rms of the kind); along positions of a map, the rms itself
    kind    slices of one size.  Where their rms, in order, jumps more than JUMP-fold to what lies beyond 1,
            the smaller are a kind of their own: scores beside coordinates.  They are if they are half of the
            slices, or the axis has fewer than FEW, and the largest of them is LEAST of the others' rms.

A map (four axes or more) is sparse: most of its lines hold next to nothing, and edges move.

The sums come from the elements in the order of a walk.  The last axis is folded first: each of its lines
gives one sum, and the sums of all lines, in their order, are a tensor with an axis less, which is folded in
the same way.  All axes together cost two products with a vector of ones a block, and some room an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.comparison.blocks import Floats, Layout
from harness.comparison.buffers import FOLD, ONES, Buffers
from harness.comparison.metrics import Group

UPPER = 1024
"""Sums of lines that wait to be folded together, at most; a 1024th of the elements will do."""

SMALL = 1 << 20
"""Bytes that the sums of one axis may take however small the tensor is."""

SHARE, JUMP, FEW, LEAST = 0.1, 20.0, 64, 1e-5
ELEMENTS = 4
"""Elements in a slice that is judged, at least: fewer are judged one by one."""

LONG = 8
"""Of so few lines a product with ones would take much room for little work."""

SUMS = 3
"""Of |d|, |r| and r^2."""


class _Axis:
    """Folds one axis: takes |d|, |r| and r^2 in order as the rows of an array, and hands on sums of lines."""

    def __init__(self, size: int, counted: bool, above: _Axis | None, room: int) -> None:
        self._size, self._above = size, above
        self.sums = np.zeros((SUMS, size)) if counted else None
        self._line, self._offset = np.zeros((SUMS, 1)), 0
        self._waiting, self._used = np.empty((SUMS, room if above else 0)), 0

    def add(self, values: Floats) -> None:
        """Take the next elements: the rest of a line begun, whole lines, the beginning of another."""
        start = min(self._size - self._offset, values.shape[1]) if self._offset else 0
        stop = start + (values.shape[1] - start) // self._size * self._size
        if start:
            self._add_part(values[:, :start])
        step = max(1, FOLD // self._size) * self._size
        for first in range(start, stop, step):
            self._add_lines(values[:, first : min(first + step, stop)].reshape(SUMS, -1, self._size))
        if stop < values.shape[1]:
            self._add_part(values[:, stop:])

    def _add_lines(self, lines: Floats) -> None:
        count = lines.shape[1]
        if self.sums is not None and count > LONG:
            self.sums += ONES[:count] @ lines
        elif self.sums is not None:
            for line in range(count):
                self.sums += lines[:, line]
        if self._above:
            self._hand_on(_sums_of(lines))

    def _add_part(self, values: Floats) -> None:
        stop = self._offset + values.shape[1]
        if self.sums is not None:
            self.sums[:, self._offset : stop] += values
        if self._above:
            self._line += values.sum(axis=1, keepdims=True)
        self._offset = stop % self._size
        if self._above and not self._offset:
            self._hand_on(self._line)
            self._line[:] = 0.0

    def _hand_on(self, sums: Floats) -> None:
        while sums.shape[1]:
            taken = sums[:, : self._waiting.shape[1] - self._used]
            self._waiting[:, self._used : self._used + taken.shape[1]] = taken
            self._used += taken.shape[1]
            sums = sums[:, taken.shape[1] :]
            if self._used == self._waiting.shape[1]:
                self.settle()

    def settle(self) -> None:
        """Hand on what waits."""
        if self._above and self._used:
            self._above.add(self._waiting[:, : self._used])
            self._used = 0


def _sums_of(lines: Floats) -> Floats:
    size = lines.shape[2]
    sums: Floats = lines @ ONES[:size] if size <= ONES.size else lines.sum(axis=2)
    return sums


class Slices:
    """Sums of |d|, |r| and r^2 for every index of every axis of a tensor that is walked as `layout` says.

    Left out are axes whose slices are single elements, or all of the tensor, and those whose sums would take
    more than an eighth of `bytes_held` and SMALL.
    """

    def __init__(self, layout: Layout, bytes_held: int) -> None:
        self._layout, self._size = layout, math.prod(layout.shape)
        self._most = max(bytes_held // 8, SMALL) // (8 * SUMS)
        self._by_axis: dict[int, _Axis] = {}
        above, room = None, max(32, min(UPPER, self._size // 1024))
        for axis in layout.axes if self._size else ():
            if (size := layout.shape[axis]) > 1:
                above = self._by_axis[axis] = _Axis(size, self._counts(size), above, room)
        self._folds = list(reversed(self._by_axis.values()))

    def _counts(self, size: int) -> bool:
        return size < self._size and size <= self._most

    @property
    def axes(self) -> Sequence[int]:
        """The axes whose slices are judged."""
        counted = (axis for axis, fold in self._by_axis.items() if fold.sums is not None)
        return sorted(axis for axis in counted if self._elements(axis) >= ELEMENTS)

    def _elements(self, axis: int) -> int:
        return self._size // self._layout.shape[axis]

    def add(self, room: Buffers) -> None:
        """Take the next elements of the walk, the block in `room`; its spare row is used."""
        if self._folds:
            np.multiply(room.r, room.r, out=room.spare)
            self._folds[0].add(room.every)

    def finish(self) -> None:
        """Nothing is added after."""
        for fold in self._folds:
            fold.settle()

    def worst(self, axis: int | None, floor: float) -> Group | None:
        """The slice along `axis` with the largest mean|d| / max(mean|r|, floor); None without sums."""
        fold = self._by_axis.get(-1 if axis is None else axis)
        if axis is None or fold is None or fold.sums is None:
            return None
        return _worst(axis, fold.sums, floor * self._elements(axis))

    def judged(self, axis: int, scale: float) -> Group:
        """The slice along `axis` that is furthest off its own size, as the module's docstring says.

        Asked last, and once: it uses the sums up.
        """
        sums = self._by_axis[axis].sums
        assert sums is not None
        sums /= self._elements(axis)
        floor = kind_rms(np.sqrt(sums[2], out=sums[2]), alike=axis == self._layout.batch_axis)
        share = 1.0 if axis in positions(self._layout.shape) else SHARE
        return _worst(axis, sums, np.maximum(share * floor, scale))


def _worst(axis: int, sums: Floats, least: Floats | float) -> Group:
    quotient = np.maximum(sums[1], least)
    np.divide(sums[0], quotient, out=quotient)
    quotient[sums[0] == 0.0] = 0.0
    index = int(quotient.argmax())
    return Group(axis, index, quotient.size, quotient.item(index))


def positions(shape: Sequence[int]) -> frozenset[int]:
    """The axes of a map that are positions: all but samples and channels, which come first or last."""
    if len(shape) < 4:
        return frozenset()
    last = shape[-1] < min(shape[1:-1])
    return frozenset(range(1, len(shape) - 1) if last else range(2, len(shape)))


def kind_rms(rms: Floats, *, alike: bool = False) -> Floats | float:
    """The rms of the kind of every slice, from the slices' own; one number where all are of one kind."""
    size = np.sort(rms)
    found: Floats | float = _rms(size)
    stop = size.size
    for place in () if alike else _jumps(size):
        upper = _rms(size[place:stop])
        if size[place - 1] >= LEAST * upper:
            found = np.where(rms < size[place], _rms(size[:place]), upper if stop == size.size else found)
            stop = place
    return found


def _jumps(size: Floats) -> list[int]:
    """Where sizes in order jump to a kind beyond 1, the last first; the first `least` are of one kind."""
    least = 1 if size.size < FEW else size.size // 2
    places = np.flatnonzero((size[1:] > JUMP * size[:-1]) & (size[1:] > 1.0)) + 1
    return [int(place) for place in places[::-1] if place >= least]


def _rms(size: Floats) -> float:
    return math.sqrt(float(np.vecdot(size, size)) / size.size)
