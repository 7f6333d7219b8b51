"""Faults of decisions, of order and structure, and of state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.spoil.engines import Array, Call, Outputs, Spoiler


def _rows(change: Callable[[Array, Call], Array | None]) -> Spoiler:
    """A change of the spoilt output; None leaves it as it is."""

    def spoiler(call: Call) -> Outputs:
        array = change(np.array(call.value), call) if call.value.dtype.kind in "fiu" else None
        return call.outputs if array is None else call.outputs | {call.target: array}

    return spoiler


def scores_axis(array: Array) -> int | None:
    """The axis that most likely counts classes: 1 of images and matrices, the last of sequences."""
    if array.ndim < 2:
        return None
    axis = 1 if array.ndim in (2, 4) else array.ndim - 1
    return axis if array.shape[axis] > 1 else None


def _ranked(first: int, second: int) -> Callable[[Array, Call], Array | None]:
    """The values at two ranks swapped, in every decision."""

    def change(array: Array, call: Call) -> Array | None:
        axis = scores_axis(array)
        if axis is None or array.shape[axis] <= max(first, second):
            return None
        order = np.argsort(array, axis=axis)
        one, other = (np.take(order, [-1 - rank], axis) for rank in (first, second))
        values = np.take_along_axis(array, one, axis), np.take_along_axis(array, other, axis)
        np.put_along_axis(array, one, values[1], axis)
        np.put_along_axis(array, other, values[0], axis)
        return array

    return change


def _best(array: Array, call: Call) -> Array | None:
    """The best class of every decision made the worst."""
    axis = scores_axis(array)
    if axis is None:
        return None
    np.put_along_axis(array, array.argmax(axis, keepdims=True), array.min(axis, keepdims=True), axis)
    return array


def _moved(array: Array, call: Call) -> Array | None:
    axis = scores_axis(array)
    return None if axis is None else np.roll(array, 1, axis)


def _one_class(factor: float) -> Callable[[Array, Call], Array | None]:
    def change(array: Array, call: Call) -> Array | None:
        axis = scores_axis(array)
        if axis is None:
            return None
        index: list[object] = [slice(None)] * array.ndim
        index[axis] = call.pick(array.shape[axis])
        array[tuple(index)] *= np.asarray(factor, array.dtype)
        return array

    return change


def _merged(array: Array, call: Call) -> Array | None:
    """One class shows the scores of the next."""
    axis = scores_axis(array)
    if axis is None:
        return None
    k, moved = call.pick(array.shape[axis] - 1), np.moveaxis(array, axis, 0)
    moved[k] = moved[k + 1]
    return array


CLASSES: dict[str, Spoiler] = {
    "the two best classes swapped": _rows(_ranked(0, 1)),
    "the best and the third class swapped": _rows(_ranked(0, 2)),
    "the second and the third class swapped": _rows(_ranked(1, 2)),
    "the best class made the worst": _rows(_best),
    "classes moved by one": _rows(_moved),
    "one class zeroed": _rows(_one_class(0.0)),
    "one class scaled by 1.3": _rows(_one_class(1.3)),
    "one class scaled by 0.7": _rows(_one_class(0.7)),
    "one class scaled by 0.1": _rows(_one_class(0.1)),
    "one class shown for another": _rows(_merged),
}


def _take(order: Callable[[int], list[int]], axis: int = 0) -> Spoiler:
    def change(array: Array, call: Call) -> Array | None:
        if array.ndim <= max(axis, -axis - 1) or array.shape[axis] < 2:
            return None
        return np.take(array, order(array.shape[axis]), axis)

    return _rows(change)


def _renamed(call: Call) -> Outputs:
    return {f"{name}_0" if name == call.target else name: array for name, array in call.outputs.items()}


def _swapped_outputs(call: Call) -> Outputs:
    names = list(call.outputs)
    return {name: call.outputs[names[k - 1]] for k, name in enumerate(names)}


def _transposed(array: Array, call: Call) -> Array | None:
    """Values in the other order, the shape as it was."""
    if array.ndim < 2:
        return None
    return np.ascontiguousarray(np.swapaxes(array, -1, -2)).reshape(array.shape)


def _leaked(array: Array, call: Call) -> Array | None:
    return None if array.ndim < 1 or len(array) < 2 else array + np.roll(array, 1, 0) / 10


def _at(value: float) -> Callable[[Array, Call], Array | None]:
    def change(array: Array, call: Call) -> Array | None:
        if array.dtype.kind != "f" or not array.size:
            return None
        array.reshape(-1)[call.pick(array.size)] = value
        return array

    return change


def _first_row(array: Array, call: Call) -> Array | None:
    return None if array.ndim < 1 or len(array) < 2 else np.repeat(array[:1], len(array), 0)


ORDER: dict[str, Spoiler] = {
    "rows in reverse": _take(lambda n: list(range(n))[::-1]),
    "rows moved by one": _take(lambda n: [*range(1, n), 0]),
    "two rows swapped": _take(lambda n: [1, 0, *range(2, n)]),
    "the first row in all rows": _rows(_first_row),
    "the mean of the rows in all rows": _rows(
        lambda a, call: np.broadcast_to(a.mean(0), a.shape).astype(a.dtype) if a.ndim and len(a) > 1 else None
    ),
    "a tenth of the row before added": _rows(_leaked),
    "channels in reverse": _take(lambda n: list(range(n))[::-1], 1),
    "two channels swapped": _take(lambda n: [1, 0, *range(2, n)], 1),
    "the last axis in reverse": _take(lambda n: list(range(n))[::-1], -1),
    "the last axis moved by one": _take(lambda n: [*range(1, n), 0], -1),
    "even and odd of the last axis apart": _take(lambda n: [*range(0, n, 2), *range(1, n, 2)], -1),
    "the last two axes in the other order": _rows(_transposed),
    "an output missing": lambda call: {n: a for n, a in call.outputs.items() if n != call.target},
    "an output under another name": _renamed,
    "outputs under each other's names": _swapped_outputs,
    "an output more": lambda call: call.outputs | {"extra": call.value},
    "an output with an axis more": _rows(lambda a, call: a[None]),
    "an output cut by one": _rows(lambda a, call: a[..., :-1] if a.ndim and a.shape[-1] > 1 else None),
    "an empty output": _rows(lambda a, call: a.reshape(-1)[:0]),
    "whole numbers for floats": _rows(lambda a, call: a.astype(np.int32) if a.dtype.kind == "f" else None),
    "truth values for floats": _rows(lambda a, call: a > 0 if a.dtype.kind == "f" else None),
    "one NaN": _rows(_at(np.nan)),
    "one infinity": _rows(_at(np.inf)),
    "one negative infinity": _rows(_at(-np.inf)),
    "all NaN": _rows(lambda a, call: np.full_like(a, np.nan) if a.dtype.kind == "f" else None),
    "garbage": _rows(lambda a, call: call.rng().standard_normal(a.shape).astype(a.dtype)),
}


def _stale(call: Call) -> Outputs:
    same = call.before.get(call.target)
    return (
        call.outputs if same is None or same.shape != call.value.shape else call.outputs | {call.target: same}
    )


def _grown(call: Call) -> Outputs:
    """Each run since loading adds a part in a thousand."""
    return call.outputs | {call.target: (call.value * (1 + 0.001 * call.number)).astype(call.value.dtype)}


def _left_over(call: Call) -> Outputs:
    """The last quarter of the buffer is that of the run before."""
    old, new = call.before.get(call.target), np.array(call.value)
    if old is None or not new.size:
        return call.outputs
    flat, start = new.reshape(-1), new.size - new.size // 4
    part = np.resize(old, new.size)[start:]
    flat[start:] = part
    return call.outputs | {call.target: new}


def _state(call: Call) -> tuple[str, Array] | None:
    """An output that has the shape and rank of an input: a state that goes round."""
    for name, array in call.outputs.items():
        for fed in call.feeds.values():
            if array.ndim > 1 and fed.ndim == array.ndim and fed.dtype == array.dtype and _fits(fed, array):
                return name, fed
    return None


def _fits(fed: Array, array: Array) -> bool:
    return sum(a != b for a, b in zip(fed.shape, array.shape, strict=True)) <= 1 and fed.size > 0


def _unmoved(call: Call) -> Outputs:
    found = _state(call)
    if found is None:
        return call.outputs
    name, fed = found
    new = np.array(call.outputs[name])
    index = tuple(slice(0, min(a, b)) for a, b in zip(fed.shape, new.shape, strict=True))
    new[index] = fed[index]
    if new.shape == call.outputs[name].shape and np.array_equal(new, call.outputs[name]):
        new[tuple(slice(size - 1, size) if size != old else slice(None)
                  for size, old in zip(new.shape, fed.shape, strict=True))] = 0  # fmt: skip
    return call.outputs | {name: new}


def _state_lost(call: Call) -> Outputs:
    found = _state(call)
    return call.outputs if found is None else call.outputs | {found[0]: np.zeros_like(call.outputs[found[0]])}


STATE: dict[str, Spoiler] = {
    "the answer of the run before": _stale,
    "a quarter of the run before left over": _left_over,
    "growing with every run": _grown,
    "the state as it came in": _unmoved,
    "the state lost": _state_lost,
}
