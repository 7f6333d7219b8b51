"""Top-1 agreement of outputs that look like scores: whether the engine chooses the reference's class.

Scores are compared line by line, a line being the classes of one sample (or token, or pixel).  Two classes
are tied where they lie within MARGIN limits of the larger, which any right engine may turn round; a line is
decided where its best two are not tied.  It disagrees where the engine's best is not tied with the
reference's, nor within NOISE times the median error of the line: what two exchanged classes do not move.
A best that is not finite is a fault of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.comparison.blocks import Array, Floats

MARGIN, NOISE = 2.0, 10.0
PROBED = 64
"""Lines looked at to tell whether they sum to 1."""

ELEMENTS = 1 << 15
"""Elements of lines looked at in one go, about."""


@dataclass(frozen=True)
class Ranking:
    """Of `lines` along `axis` the `decided` ones, those that disagree, and the first of them.

    `actual` and `expected` are the classes that were chosen there.
    """

    axis: int
    lines: int
    decided: int
    disagree: int
    index: tuple[int, ...] | None = None
    actual: int | None = None
    expected: int | None = None

    @property
    def share(self) -> float:
        """The share of decided lines that disagree, 0 to 1."""
        return self.disagree / self.decided if self.decided else 0.0


def rank(actual: Array, expected: Array, limit: float) -> Ranking | None:
    """The top-1 agreement of two float tensors of one shape; None where they do not look like scores."""
    axis = score_axis(expected)
    if axis is None:
        return None
    found = Ranking(axis, 0, 0, 0)
    with np.errstate(all="ignore"):
        for where, ours, theirs in _lines(actual, expected, axis):
            found = _added(found, where, ours, theirs, limit)
    return found


def score_axis(expected: Array) -> int | None:
    """The axis of classes: the last of two, or one along which numbers are shares of 1."""
    shape = expected.shape
    if len(shape) < 2 or not expected.size:
        return None
    if len(shape) == 2:
        return 1 if shape[1] > 1 else None
    axes = (axis for axis in (len(shape) - 1, 1) if shape[axis] > 1 and _sums_to_one(expected, axis))
    return next(axes, None)


def _sums_to_one(array: Array, axis: int) -> bool:
    lines = np.moveaxis(array, axis, -1)
    count = int(np.prod(lines.shape[:-1]))
    probed = max(1, min(PROBED, count, ELEMENTS // lines.shape[-1]))
    places = np.unravel_index(np.linspace(0, count - 1, probed, dtype=int), lines.shape[:-1])
    some = lines[places].astype(np.float64)
    return bool((some >= 0.0).all() and (np.abs(some.sum(axis=-1) - 1.0) < 1e-2).all())


def _lines(actual: Array, expected: Array, axis: int) -> Iterator[tuple[tuple[int, ...], Floats, Floats]]:
    """Lines of both, some at a time, as float64, and where the first of them is."""
    ours, theirs = (np.moveaxis(array, axis, -1) for array in (actual, expected))
    count, classes = theirs.shape[-2:]
    step = max(1, ELEMENTS // classes)
    for place in np.ndindex(theirs.shape[:-2]):
        for start in range(0, count, step):
            parts = (array[place][start : start + step].astype(np.float64) for array in (ours, theirs))
            yield ((*place, start), *parts)  # type: ignore[misc]


def _added(found: Ranking, where: tuple[int, ...], ours: Floats, theirs: Floats, limit: float) -> Ranking:
    every = np.arange(len(theirs))
    best, chosen = theirs.argmax(axis=1), ours.argmax(axis=1)
    top, tie = theirs[every, best], MARGIN * limit * _size(theirs, best)
    wrong = (top - theirs[every, chosen] > tie) & np.isfinite(ours[every, chosen])
    if wrong.any():
        noise = np.median(np.abs(ours[wrong] - theirs[wrong]), axis=1) if theirs.shape[1] >= 8 else 0.0
        wrong[wrong] = (top - theirs[every, chosen])[wrong] > NOISE * noise
    theirs[every, best] = -np.inf
    more = replace(
        found,
        lines=found.lines + len(theirs),
        decided=found.decided + int(np.count_nonzero(wrong | (top - theirs.max(axis=1) > tie))),
        disagree=found.disagree + int(np.count_nonzero(wrong)),
    )
    if found.disagree or not more.disagree:
        return more
    first = int(wrong.argmax())
    index = (*where[:-1], where[-1] + first)
    return replace(more, index=index, actual=int(chosen[first]), expected=int(best[first]))


def _size(lines: Floats, best: NDArray[np.intp]) -> Floats:
    """What ties of a line are relative to: the size of its best, or of all its finite numbers."""
    finite = np.isfinite(lines)
    mean = np.abs(lines).sum(axis=1, where=finite) / np.maximum(finite.sum(axis=1), 1)
    size: Floats = np.fmax(np.abs(lines[np.arange(len(lines)), best]), mean)
    return size
