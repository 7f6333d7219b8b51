"""What the data of a case cannot tell, in a few words each: an engine that is wrong so would pass as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.comparison.compare import Iterations, compare_outputs
from harness.spec.terms import Terms

ROWS = "these data cannot tell rows apart"
RUNS = "these data cannot tell one run from the next"
LOOKED_AT = 1 << 12
"""Elements of an output that are looked at before all of it is."""
Outputs = Mapping[str, NDArray[Any]]


def blind_spots(expected: Iterations, terms: Terms, rows: int) -> tuple[str, ...]:
    """What the reference's outputs, `rows` samples to a run and all of them joined, would not show.

    Rows in another order, or the outputs of the run before, that pass by the case's own terms; outputs that
    are one value throughout.
    """
    if not isinstance(expected, Mapping):
        return tuple(_constant(expected[0], terms)) if expected else ()
    judged = {name: array for name, array in expected.items() if terms.rule(name).compare != "ignore"}
    return (*_order(judged, terms, rows), *_constant(judged, terms))


def _order(expected: Outputs, terms: Terms, rows: int) -> Iterator[str]:
    samples = max((array.shape[0] for array in expected.values() if array.ndim), default=0)
    if rows > 1 and _passes_rolled(expected, terms, 1):
        yield ROWS
    elif samples > rows and _passes_rolled(expected, terms, rows):
        yield RUNS if rows > 1 else ROWS


def _passes_rolled(expected: Outputs, terms: Terms, by: int) -> bool:
    """Whether the outputs, moved on by so many samples, pass as the reference's."""
    for name, array in sorted(expected.items(), key=lambda item: item[1].size):
        if not array.ndim or array.shape[0] <= by:
            continue
        if _far(array, by, terms) or not _passes(name, np.roll(array, by, 0), array, terms):
            return False
    return any(array.ndim and array.shape[0] > by for array in expected.values())


def _far(array: NDArray[Any], by: int, terms: Terms) -> bool:
    """Whether a glance tells the rolled output from the plain one, at many times the limit."""
    flat = array.reshape(array.shape[0], -1)
    columns = flat[:, :: max(1, flat.size // LOOKED_AT)].astype(np.float64)
    with np.errstate(all="ignore"):
        error, size = np.abs(np.roll(columns, by, 0) - columns).sum(), np.abs(columns).sum()
    return bool(np.isfinite(error) and error > 16 * terms.tolerance.limit * size and size > 0)


def _passes(name: str, moved: NDArray[Any], array: NDArray[Any], terms: Terms) -> bool:
    return compare_outputs({name: moved}, {name: array}, terms).quality


def _constant(expected: Outputs, terms: Terms) -> Iterator[str]:
    for name, array in expected.items():
        if array.size < 2 or terms.rule(name).compare == "ignore":
            continue
        flat = array.reshape(-1)
        if all(bool((part == flat[0]).all()) for part in (flat[:LOOKED_AT], flat)):
            yield f"output '{name}' is all {'zero' if not flat[0] else f'{flat[0]:.6g}'} on these data"


def random_words(random: Sequence[str], every: Sequence[str]) -> tuple[str, ...]:
    """What is said of outputs that a model makes by chance."""
    if random and set(every) <= set(random):
        return ("random: nothing to compare",)
    return tuple(f"output '{name}' is random: not compared" for name in random)
