"""What of an engine's error the reference's own error explains, element by element.

Other readings of the same model (the optimised session, a float64 evaluation) say how far the reference
may be off itself.  With `d` the engine's difference from it, and `f` the largest of the readings':

    unit     max(|r|, mean|r|), as in local errors
    usual    rms of f / unit in all of the tensor, times, for every axis, its rms in the slice through the
             element over that of all: what rows and channels that differ in noise would show there
    own      max(f, SPREAD * unit * usual)
    forgiven |d| <= FACTOR * own; integers, bools, NaN and infinities where a reading differs there, too

An element is forgiven by becoming the reference's; what is left is compared by the rules that hold for all.
The usual is there because two roundings of one number are seldom equally wrong.  Noise in one row or channel
excuses none of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.comparison.blocks import Array, Floats

FACTOR = 4.0
"""How many times the reference's own error an engine may show, as with the emulation's."""
SPREAD = 2.0
"""How many rms count as usual: slices of a few elements tell theirs no closer."""


def forgive(actual: Array, expected: Array, readings: Sequence[Array]) -> NDArray[Any]:
    """`actual` with the reference's own element wherever the readings explain the difference.

    All of one shape; with no readings, or none of that shape, `actual` itself.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    alike = [np.asarray(one) for one in readings if np.shape(one) == expected.shape]
    if actual.shape != expected.shape or not alike:
        return actual
    with np.errstate(all="ignore"):
        return np.where(_explained(actual, expected, alike), expected, actual)


def unsettled(expected: Array, readings: Sequence[Array]) -> bool:
    """Whether the readings do not even agree on the shape."""
    return any(np.shape(one) != np.shape(expected) for one in readings)


def _explained(actual: Array, expected: Array, readings: Sequence[Array]) -> NDArray[np.bool_]:
    if expected.dtype.kind in "iub":
        return _any([np.not_equal(one, expected) for one in readings])
    wide = _wide(expected)
    own = np.max([_finite(np.abs(_wide(one) - wide)) for one in readings], axis=0)
    unit = np.maximum(np.abs(wide), _finite(np.abs(wide)).mean())
    near = np.maximum(own, SPREAD * unit * _usual(_finite(own / unit)))
    close = np.abs(_wide(actual) - wide) <= FACTOR * near
    kinds = _kind(wide)
    odd = (kinds != FINITE) | (_kind(_wide(actual)) != FINITE)
    return _any([odd & _any([_kind(_wide(one)) != kinds for one in readings]), ~odd & close])


FINITE = 0


def _kind(values: Floats) -> NDArray[np.int8]:
    """FINITE, or which of NaN and the infinities."""
    kinds = np.isnan(values) + 2 * np.isposinf(values) + 3 * np.isneginf(values)
    found: NDArray[np.int8] = kinds.astype(np.int8)
    return found


def _any(several: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.any(several, axis=0)
    return found


def _usual(errors: Floats) -> Floats:
    """The error that each element would show if those of slices multiplied; see the module's docstring."""
    squares = errors * errors
    whole = float(squares.mean()) if errors.size else 0.0
    found: Floats = np.full(errors.shape, whole)
    if not 0.0 < whole < np.inf:
        return np.sqrt(found)
    for axis in (axis for axis, size in enumerate(errors.shape) if 1 < size < errors.size):
        others = tuple(other for other in range(errors.ndim) if other != axis)
        found *= np.mean(squares, axis=others, keepdims=True) / whole
    return np.sqrt(found)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0.0)


def _wide(array: Array) -> Floats:
    return np.asarray(array).astype(np.float64)
