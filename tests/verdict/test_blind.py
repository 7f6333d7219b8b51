"""What data cannot tell is said, and nothing is said of data that can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.comparison.compare import compare_outputs
from harness.precision import Precision
from harness.spec.terms import Terms
from harness.verdict.blind import ROWS, RUNS, blind_spots, random_words
from harness.verdict.triage import verdict_of

SHAPES = ((8, 10), (8,), (8, 3, 5, 5), (64, 2000))
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)


def values(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 4, 8])
def test_samples_that_differ_are_told_apart(precision: Precision, shape: Any, rows: int) -> None:
    assert blind_spots({"y": values(shape, 1)}, Terms.of(precision), rows) == ()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("rows", [1, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_samples_that_are_alike_are_not(precision: Precision, shape: Any, rows: int, seed: int) -> None:
    terms = Terms.of(precision)
    alike = np.broadcast_to(
        values(shape[1:] or (1,), seed)[:1] if len(shape) == 1 else values(shape[1:], seed), shape
    )
    noise = 1 + terms.tolerance.limit / 100 * values(shape, seed + 9)
    found = blind_spots({"y": (alike * noise).astype(np.float32)}, terms, rows)
    assert ROWS in found


def test_what_is_said_is_what_the_judgement_cannot_see() -> None:
    terms = Terms.of(Precision.FP16)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        alike = rng.standard_normal((1, 6)) + 10.0 ** rng.uniform(-6, 0) * rng.standard_normal((8, 6))
        moved = np.roll(alike, 1, 0)
        blind = ROWS in blind_spots({"y": alike}, terms, 8)
        assert blind == compare_outputs({"y": moved}, {"y": alike}, terms).quality


def test_runs_that_repeat_are_not_told_apart() -> None:
    run = values((4, 6), 0)
    assert blind_spots({"y": np.concatenate([run, run, run])}, Terms.of(Precision.FP32), 4) == (RUNS,)


def test_one_output_that_tells_is_enough_and_one_sample_says_nothing() -> None:
    anchors = np.broadcast_to(values((6,), 0), (8, 6))
    both = {"anchors": np.array(anchors), "y": values((8, 3), 1)}
    assert blind_spots(both, Terms.of(Precision.FP16), 8) == ()
    assert blind_spots({"y": values((1, 6), 0)}, Terms.of(Precision.FP16), 1) == ()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((8, 3), np.float32), "output 'y' is all zero on these data"),
        (np.full((8, 20000), 0.5, np.float32), "output 'y' is all 0.5 on these data"),
        (np.zeros(8, np.int64), "output 'y' is all zero on these data"),
        (np.ones((8, 2), bool), "output 'y' is all 1 on these data"),
    ],
)
def test_an_untrained_head_is_told(array: Any, said: str) -> None:
    found = blind_spots({"y": array, "z": values((8, 3), 0)}, Terms.of(Precision.FP16), 8)
    assert found == (said,)
    assert said not in blind_spots({"y": array}, Terms.of(Precision.FP16).ignoring(["y"]), 8)


def test_constant_but_for_its_last_element_is_not_constant() -> None:
    almost = np.zeros((8, 20000), np.float32)
    almost[-1, -1] = 1
    found = blind_spots({"y": almost}, Terms.of(Precision.FP16), 8)
    assert not any("all zero" in text for text in found)


def test_random_outputs_are_not_compared() -> None:
    assert random_words(["y"], ["y"]) == ("random: nothing to compare",)
    assert random_words(["y"], ["y", "z"]) == ("output 'y' is random: not compared",)
    assert random_words([], ["y"]) == ()
    nothing = compare_outputs(
        {"y": values((2,), 0)}, {"y": values((2,), 1)}, Terms.of(Precision.FP16).ignoring("y")
    )
    assert verdict_of(nothing).verdict == "unverified"
