"""When a fault shows: at which shapes, on which data, at which runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.spoil.engines import Array, Call

Condition = Callable[[Call], bool]
Axes = list[tuple[int, Any, int, int]]


def axes(call: Call) -> Axes:
    """Size, range, place in the range and axis number of every axis that may vary, inputs in order."""
    found = []
    for name, part in call.ranges.items():
        sizes = zip(part.min, part.opt, part.max, strict=True)
        for axis, (low, opt, high) in enumerate(sizes):
            if low < high:
                found.append((call.shapes[name][axis], (low, opt, high), axis, len(part.opt)))
    return found


def _last(call: Call) -> tuple[int, Any]:
    """Size and range of the last axis that varies; 0 where none does."""
    varying = [one for one in axes(call) if one[2] > 0] or axes(call)
    return (varying[-1][0], varying[-1][1]) if varying else (0, (0, 0, 0))


def _batch(call: Call) -> int:
    """The size of the first axis that varies and is a first one; 0 where none is."""
    return next((size for size, _, axis, _ in axes(call) if axis == 0), 0)


def _sized(rule: Callable[[int, int, int, int], bool]) -> Condition:
    """A rule on the last varying axis: size, min, opt, max."""

    def condition(call: Call) -> bool:
        size, (low, opt, high) = _last(call)
        return size > 0 and rule(size, low, opt, high)

    return condition


def _all_axes(rule: Callable[[int, int, int, int], bool]) -> Condition:
    def condition(call: Call) -> bool:
        found = axes(call)
        return bool(found) and all(rule(size, *part) for size, part, _, _ in found)

    return condition


def _mixed(call: Call) -> bool:
    """Whether one axis is at its least and another at its most."""
    found = axes(call)
    return any(size == low for size, (low, _, _), _, _ in found) and any(
        size == high for size, (_, _, high), _, _ in found
    )


SHAPES: dict[str, Condition] = {
    "at even sizes but opt and max": _sized(lambda n, low, opt, high: n % 2 == 0 and n not in (opt, high)),
    "at odd sizes but min": _sized(lambda n, low, opt, high: n % 2 == 1 and n != low),
    "at multiples of 8 but opt and max": _sized(
        lambda n, low, opt, high: n % 8 == 0 and n not in (opt, high)
    ),
    "at multiples of 16 but opt and max": _sized(
        lambda n, low, opt, high: n % 16 == 0 and n not in (opt, high)
    ),
    "one below max": _sized(lambda n, low, opt, high: n == high - 1 and n != opt),
    "one above opt": _sized(lambda n, low, opt, high: n == opt + 1 and n != high),
    "above opt": _sized(lambda n, low, opt, high: n > opt),
    "below opt": _sized(lambda n, low, opt, high: n < opt),
    "off min, opt and max": _sized(lambda n, low, opt, high: n not in (low, opt, high)),
    "at max alone": _all_axes(lambda n, low, opt, high: n == high),
    "at min alone": _all_axes(lambda n, low, opt, high: n == low),
    "at opt alone": _all_axes(lambda n, low, opt, high: n == opt),
    "where one axis is at min and another at max": _mixed,
    "at batch 1 beyond opt": lambda call: _batch(call) == 1 and _last(call)[0] > _last(call)[1][1],
    "at batches past 4": lambda call: _batch(call) > 4,
    "at an even batch": lambda call: _batch(call) > 0 and _batch(call) % 2 == 0,
}

RUNS: dict[str, Condition] = {
    "in the first run": lambda call: call.number == 0,
    "from the fourth run on": lambda call: call.number >= 3,
    "in every other run": lambda call: call.number % 2 == 1,
    "after a larger shape": lambda call: _volume(call.shapes_before) > _volume(call.shapes),
    "after a smaller shape": lambda call: 0 < _volume(call.shapes_before) < _volume(call.shapes),
}


def _volume(shapes: Any) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


def rows_in(call: Call, one_in: int) -> Array:
    """Which samples of the feed a fault that strikes one sample in `one_in` strikes, by their own data."""
    part = next(iter(call.feeds.values()))
    rows = call.value.shape[0] if call.value.ndim else 1
    if part.ndim and part.shape[0] == rows:
        return np.array([_struck(row, one_in, call.at) for row in part])
    whole = np.concatenate([np.asarray(a, np.float64).reshape(-1) for a in call.feeds.values()])
    return np.full(rows, _struck(whole, one_in, call.at))


def _struck(row: Array, one_in: int, at: float) -> bool:
    found = hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=4, key=str(at).encode())
    return int.from_bytes(found.digest(), "big") % one_in == 0
