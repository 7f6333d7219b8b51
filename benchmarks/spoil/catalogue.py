"""The ways in which an engine is spoilt at run time, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.spoil import conditions
from benchmarks.spoil.effects import PART, PLACES, WHOLE, Effect, Place, changed
from benchmarks.spoil.engines import Call, Outputs, Spoiler
from benchmarks.spoil.whole import CLASSES, ORDER, STATE

SEEN_BY = {
    "values": "the mean error",
    "rows": "every row by its own size",
    "channels": "every slice by its own size",
    "classes": "top-k agreement; a task metric",
    "positions": "every element; a task metric",
    "shapes": "more shapes of the profile",
    "data": "all the data, compared",
    "runs": "the same engine run again, in another order",
    "order": "names, shapes and kinds; data that can tell rows apart",
    "state": "several steps, each fed with the last",
    "edits": "a task metric on real data; for scales, what calibration explains",
}
"""Family of faults -> what sees one that today's suites pass."""


@dataclass(frozen=True)
class Spoil:
    """One way to spoil an engine."""

    name: str
    family: str
    spoiler: Spoiler


def catalogue() -> tuple[Spoil, ...]:
    """All of them, each name once."""
    return (*_whole(), *_places(), *_shapes(), *_data(), *_runs(), *_others())


def _on(place: Place, effect: Effect) -> Spoiler:
    return lambda call: changed(call, place, effect)


def _everywhere(call: Call, whole: object) -> object:
    return ...


def _whole() -> Iterator[Spoil]:
    for name, effect in WHOLE.items():
        yield Spoil(f"an output {name}", "values", _on(_everywhere, effect))


def _family(place: str) -> str:
    if "row" in place:
        return "rows"
    return "positions" if "element" in place or "bytes" in place else "channels"


def _places() -> Iterator[Spoil]:
    for where, place in PLACES.items():
        for name, effect in PART.items():
            yield Spoil(f"{where} {name}", _family(where), _on(place, effect))


STRUCK: dict[str, tuple[Place, Effect]] = {
    "all zero": (_everywhere, PART["zeroed"]),
    "scaled by 1.5": (_everywhere, WHOLE["scaled by 1.5"]),
    "the last row negated": (PLACES["the last row"], PART["negated"]),
    "the end of the last axis zeroed": (PLACES["the end of the last axis"], PART["zeroed"]),
}
"""What shows where a condition holds."""


def _when(condition: conditions.Condition, place: Place, effect: Effect) -> Spoiler:
    return lambda call: changed(call, place, effect) if condition(call) else call.outputs


def _shapes() -> Iterator[Spoil]:
    for when, condition in conditions.SHAPES.items():
        for name, (place, effect) in STRUCK.items():
            yield Spoil(f"{when}, {name}", "shapes", _when(condition, place, effect))


def _runs() -> Iterator[Spoil]:
    for when, condition in conditions.RUNS.items():
        for name in ("all zero", "the end of the last axis zeroed"):
            yield Spoil(f"{when}, {name}", "runs", _when(condition, *STRUCK[name]))


SAMPLES = (3, 10, 20, 50)
"""A fault that data trigger strikes one sample in so many."""


def _struck(one_in: int, effect: Effect) -> Spoiler:
    def spoiler(call: Call) -> Outputs:
        array = np.array(call.value)
        if not array.ndim or array.dtype.kind not in "fiu":
            return call.outputs
        rows = conditions.rows_in(call, one_in)
        if rows.any():
            array[rows] = effect(array[rows], array)
        return call.outputs | {call.target: array}

    return spoiler


def _data() -> Iterator[Spoil]:
    for one_in in SAMPLES:
        for name in ("zeroed", "negated", "scaled by 1.5"):
            yield Spoil(f"1 sample in {one_in} {name}", "data", _struck(one_in, WHOLE[name]))


def _others() -> Iterator[Spoil]:
    for family, found in (("classes", CLASSES), ("order", ORDER), ("state", STATE)):
        for name, spoiler in found.items():
            yield Spoil(name, family, spoiler)
