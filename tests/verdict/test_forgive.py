"""The floor decides: noise that the reference has itself is forgiven, nothing spoilt is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.comparison.compare import compare_outputs
from harness.comparison.explain import apart
from harness.engines.reference import plausible
from harness.precision import Precision
from harness.spec.terms import Terms
from harness.verdict.floors import OwnError, own_errors
from harness.verdict.forgive import forgive

Array = np.ndarray[Any, Any]
SHAPES = ((8, 10), (6, 3, 7, 5), (40,))
TERMS = Terms.of(Precision.FP32)


def noisy(rng: np.random.Generator, right: Array, size: float | Array) -> Array:
    return (right * (1 + size * rng.standard_normal(right.shape))).astype(np.float32)


def judged(actual: Array, right: Array, *readings: Array, terms: Terms = TERMS) -> OwnError | None:
    found = compare_outputs({"y": actual}, {"y": right}, terms)
    known = [{"y": one} for one in readings]
    return own_errors(found, {"y": actual}, {"y": right}, known, terms).get("y")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(20))
def test_an_engine_as_inexact_as_the_reference_is_explained(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.standard_normal(shape).astype(np.float32)
    found = judged(noisy(rng, right, 1e-3), right, noisy(rng, right, 1e-3), noisy(rng, right, 1e-3))
    assert found is not None
    assert (found.explains, found.beyond) == (True, True)


def zeroed_row(y: Array) -> Array:
    return np.concatenate([y[:-1], np.zeros_like(y[-1:])])


def one_element(y: Array) -> Array:
    spoilt = y.copy()
    place = np.unravel_index(np.abs(y).argmax(), y.shape)
    spoilt[place] = -spoilt[place]
    return spoilt


def negated_channel(y: Array) -> Array:
    spoilt = y.copy()
    spoilt[:, 0] *= -1
    return spoilt


SPOILS: dict[str, Callable[[Array], Array]] = {
    "rows swapped": lambda y: y[::-1].copy(),
    "rows rolled": lambda y: np.roll(y, 1, 0),
    "last row zero": zeroed_row,
    "one element negated": one_element,
    "a channel negated": negated_channel,
    "all zero": np.zeros_like,
    "scaled": lambda y: y * np.float32(1.05),
    "stale": lambda y: y * 0 + y[:1],
    "NaN": lambda y: np.where(np.arange(y.size).reshape(y.shape) == 3, np.float32(np.nan), y),
}


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("own", [0.0, 7e-8, 3e-6, 1e-4, 1e-3])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_no_spoilt_engine_is_excused(spoil: str, own: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(spoil))
    right = rng.standard_normal(shape).astype(np.float32)
    spoilt = SPOILS[spoil](noisy(rng, right, own))
    found = judged(spoilt, right, noisy(rng, right, own), noisy(rng, right, own))
    assert found is not None
    assert not found.explains


@pytest.mark.parametrize("seed", range(10))
def test_noise_in_some_rows_says_nothing_of_the_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.standard_normal((64, 40)).astype(np.float32)
    rows = np.where(np.arange(64) < 20, 0.3, 1e-7)[:, None]
    readings = noisy(rng, right, rows), noisy(rng, right, rows)
    assert judged(noisy(rng, right, rows), right, *readings).explains  # type: ignore[union-attr]
    spoilt = noisy(rng, right, rows)
    spoilt[60] = right[61]
    assert not judged(spoilt, right, *readings).explains  # type: ignore[union-attr]


def test_an_element_that_the_reference_cannot_tell_is_no_failure() -> None:
    rng = np.random.default_rng(0)
    right = rng.standard_normal((50, 40)).astype(np.float32)
    off = right.copy()
    off[3, 7] += 4e-4
    found = judged(off, right, off)
    assert found is not None
    assert (found.explains, found.beyond) == (True, False)
    elsewhere = right.copy()
    elsewhere[4, 7] += 4e-4
    assert not judged(elsewhere, right, off).explains  # type: ignore[union-attr]


def test_labels_that_tie_are_explained_where_they_tie_alone() -> None:
    right = np.arange(1000) % 7
    tie, other = right.copy(), right.copy()
    tie[5], other[6] = 0, 3
    assert judged(tie, right, tie) == OwnError(1e-3, explains=True, beyond=False)
    assert not judged(other, right, tie).explains  # type: ignore[union-attr]


def test_shapes_that_the_reference_does_not_settle_are_beyond_it() -> None:
    right = np.ones((3, 6), np.float32)
    found = judged(right[:2], right, right[:2])
    assert found == OwnError(float("inf"), explains=True, beyond=True)


def test_without_a_reading_nothing_is_forgiven() -> None:
    right = np.ones((3, 6), np.float32)
    assert forgive(right * 2, right, []) is not right
    assert judged(right * 2, right) is None


@pytest.mark.parametrize(("factor", "accepted"), [(3, True), (1000, False)])
def test_a_session_far_from_float64_is_no_reading(factor: float, accepted: bool) -> None:
    rng = np.random.default_rng(1)
    exact = rng.standard_normal((20, 20))
    right, other = noisy(rng, exact, 1e-7), noisy(rng, exact, factor * 1e-7)
    assert plausible(other, right, exact) == accepted
    assert plausible(other, right, None)


@pytest.mark.parametrize("seed", range(200))
def test_figures_are_printed_with_the_digits_that_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limit = float(10.0 ** rng.uniform(-9, 2))
    got = limit * (1 + float(10.0 ** rng.uniform(-12, 1)))
    left, right = apart(got, limit)
    assert float(left) > float(right)
    assert len(left) == len(right) or seed < 0


def test_figures_far_apart_keep_two_digits() -> None:
    assert apart(3.1e-2, 5e-3) == ("3.1e-02", "5.0e-03")
    assert apart(5.004e-3, 5e-3) == ("5.004e-03", "5.000e-03")
    assert apart(5e-3, 5e-3) == ("5.0e-03", "5.0e-03")
