"""What is done to values: effects on a part of an output, and the parts.

An effect takes the part and the whole tensor and gives new values of the part's shape.  A place gives an
index into the tensor, or None where the tensor has no such place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.spoil.engines import Array, Call

Effect = Callable[[Array, Array], Any]
Place = Callable[[Call, Array], Any]


def _size(whole: Array) -> float:
    """The mean magnitude of a tensor."""
    return float(np.abs(whole).mean()) if whole.size else 0.0


def _rolled(part: Array, whole: Array) -> Array:
    return np.roll(part, 1, axis=int(np.argmax(part.shape)) if part.ndim else None)


def _coarse(levels: int) -> Effect:
    def effect(part: Array, whole: Array) -> Array:
        step = np.abs(part).max() / levels if part.size else 0.0
        return np.round(part / step) * step if step else part

    return effect


def _clipped(part: Array, whole: Array) -> Array:
    most = np.abs(part).max() / 2 if part.size else 0.0
    return np.clip(part, -most, most)


PART: dict[str, Effect] = {
    "zeroed": lambda part, whole: np.zeros_like(part),
    "negated": lambda part, whole: -part,
    "doubled": lambda part, whole: 2 * part,
    "halved": lambda part, whole: part / 2,
    "raised by the tensor's mean": lambda part, whole: part + _size(whole),
    "made constant": lambda part, whole: np.full_like(part, part.mean() if part.size else 0.0),
    "cut off at half its largest": _clipped,
    "rolled by one": _rolled,
    "in 2 levels a side": _coarse(2),
}
"""Effects that are tried on every place."""

WHOLE: dict[str, Effect] = PART | {
    "scaled by 1.5": lambda part, whole: 1.5 * part,
    "scaled by 0.9": lambda part, whole: 0.9 * part,
    "in 8 levels a side": _coarse(8),
    "without its signs": lambda part, whole: np.abs(part),
    "without negatives": lambda part, whole: np.maximum(part, 0),
    "through a sigmoid too many": lambda part, whole: 1 / (1 + np.exp(-np.clip(part, -80, 80))),
    "through a tanh too many": lambda part, whole: np.tanh(part),
    "through a softmax too many": lambda part, whole: _softmax(part),
    "squared": lambda part, whole: part * np.abs(part),
    "with its root taken": lambda part, whole: np.sign(part) * np.sqrt(np.abs(part)),
    "rounded to whole numbers": lambda part, whole: np.round(part),
    "modulo its mean": lambda part, whole: np.fmod(part, _size(whole) or 1.0),
    "saturated at 6": lambda part, whole: np.clip(part, -6, 6),
    "saturated at 1": lambda part, whole: np.clip(part, -1, 1),
    "less its mean": lambda part, whole: part - part.mean(),
    "ones": lambda part, whole: np.ones_like(part),
    "reversed": lambda part, whole: part.reshape(-1)[::-1].reshape(part.shape),
    "sorted": lambda part, whole: np.sort(part, axis=-1) if part.ndim else part + 1,
    "with small values lost": lambda part, whole: np.where(np.abs(part) < _size(whole) / 2, 0, part),
    "with large values lost": lambda part, whole: np.where(np.abs(part) > 2 * _size(whole), 0, part),
    "relative to its largest": lambda part, whole: part / (np.abs(part).max() or 1.0),
}
"""Effects on a whole output."""


def _softmax(part: Array) -> Array:
    powers = np.exp(part - part.max(axis=-1, keepdims=True)) if part.ndim else part * 0 + 1
    return powers / powers.sum(axis=-1, keepdims=True) if part.ndim else powers


def _along(axis: int, choose: Callable[[Call, int], Any], least: int = 2) -> Place:
    """A place along one axis; a tensor whose axis is shorter than `least` has none."""

    def place(call: Call, whole: Array) -> Any:
        if not -whole.ndim <= axis < whole.ndim or whole.shape[axis] < least:
            return None
        index: list[Any] = [slice(None)] * whole.ndim
        index[axis] = choose(call, whole.shape[axis])
        return tuple(index)

    return place


def _one(call: Call, size: int) -> Any:
    return slice(k := call.pick(size), k + 1)


def _tail(call: Call, size: int) -> Any:
    """What is left over by vectors of 8, or the last one."""
    return slice(size - (size % 8 or 1), size)


def _flat(choose: Callable[[Call, Array], Any]) -> Place:
    """A place given by positions in the row-major order."""

    def place(call: Call, whole: Array) -> Any:
        if whole.size < 2:
            return None
        return np.unravel_index(np.atleast_1d(choose(call, whole)), whole.shape)

    return place


def _border(call: Call, whole: Array) -> Any:
    if whole.ndim < 4:
        return None
    edges = np.ones(whole.shape, bool)
    edges[..., 1:-1, 1:-1] = False
    return edges


def _quadrant(call: Call, whole: Array) -> Any:
    if whole.ndim < 3 or min(whole.shape[-2:]) < 2:
        return None
    height, width = whole.shape[-2:]
    return (..., slice(height // 2, None), slice(width // 2, None))


def _checkerboard(call: Call, whole: Array) -> Any:
    if whole.ndim < 3 or min(whole.shape[-2:]) < 2:
        return None
    return np.broadcast_to(np.indices(whole.shape[-2:]).sum(0) % 2 == 1, whole.shape)


PLACES: dict[str, Place] = {
    "one row": _along(0, _one),
    "the last row": _along(0, lambda call, size: slice(size - 1, size)),
    "odd rows": _along(0, lambda call, size: slice(1, None, 2)),
    "rows from the fourth on": _along(0, lambda call, size: slice(4, None), 5),
    "one channel": _along(1, _one),
    "the last channel": _along(1, lambda call, size: slice(size - 1, size)),
    "the first channel": _along(1, lambda call, size: slice(0, 1)),
    "every other channel": _along(1, lambda call, size: slice(1, None, 2)),
    "channels past a multiple of 8": _along(1, _tail),
    "one index of the last axis": _along(-1, _one),
    "the end of the last axis": _along(-1, lambda call, size: slice(size - 1, size)),
    "half of the last axis": _along(-1, lambda call, size: slice(size // 2, None)),
    "the rest past a multiple of 8": _along(-1, _tail),
    "one index of the last axis but one": _along(-2, _one),
    "the end of the last axis but one": _along(-2, lambda call, size: slice(size - 1, size)),
    "the border": _border,
    "a quadrant": _quadrant,
    "a checkerboard": _checkerboard,
    "one element": _flat(lambda call, whole: call.pick(whole.size)),
    "the largest element": _flat(lambda call, whole: np.abs(whole).argmax()),
    "the last 16 bytes": _flat(lambda call, whole: np.arange(max(0, whole.size - 4), whole.size)),
    "1 element in 100": _flat(lambda call, whole: call.rng().integers(0, whole.size, -(-whole.size // 100))),
}


def changed(call: Call, place: Place, effect: Effect) -> dict[str, Array]:
    """The outputs with an effect on a place; unchanged where the place is not there."""
    index = place(call, call.value)
    if index is None or call.value.dtype.kind not in "fiu":
        return call.outputs
    array = call.value.copy()
    with np.errstate(all="ignore"):
        array[index] = effect(array[index], array)
    return call.outputs | {call.target: array}
