"""Doubts about samples: a level that changes, two speeds, a clock that stands still; and none without."""

from __future__ import annotations

import re

import numpy as np
import pytest

from harness.latency.doubts import sample_doubts
from harness.latency.measure import Sampling
from tests.latency.test_measure import timed


def rounds(levels: np.ndarray, spread: float = 0.01) -> list[list[float]]:
    rng = np.random.default_rng(1)
    return [(1e-3 * level * np.exp(rng.normal(0, spread, 25))).tolist() for level in levels]


def said(found: tuple[str, ...], what: str) -> bool:
    return any(text.startswith(what) for text in found)


@pytest.mark.parametrize("at", [6, 20, 34])
def test_a_level_that_changes_is_told_with_its_round(at: int) -> None:
    levels = np.where(np.arange(40) < at, 1.0, 1.04)
    found = sample_doubts(rounds(levels))
    assert said(found, f"level changed: +{0.04:.0%}"[:16])
    (told,) = re.findall(r"from round (\d+) of 40", " ".join(found))
    assert abs(int(told) - at) <= 6  # Pettitt's place leans towards the middle.


def test_steady_noise_has_no_steps_and_one_speed() -> None:
    for spread in (0.001, 0.01, 0.05):
        found = sample_doubts(rounds(np.ones(40), spread))
        assert not said(found, "level changed")
        assert not said(found, "two speeds")


def test_two_speeds_are_named_with_their_share() -> None:
    slow = np.random.default_rng(2).random((40, 25)) < 0.3
    made = np.asarray(rounds(np.ones(40))) * np.where(slow, 1.3, 1.0)
    (text,) = (t for t in sample_doubts(made.tolist()) if t.startswith("two speeds"))
    fast, slower, share = map(float, re.findall(r"[\d.]+(?= ms|%)", text))
    assert (fast, slower, share) == pytest.approx((1.0, 1.3, 30), rel=0.07)


@pytest.mark.parametrize("made", ["skewed", "few outliers", "one value"])
def test_tails_are_no_second_speed(made: str) -> None:
    rng = np.random.default_rng(3)
    samples = {
        "skewed": 1 + np.abs(rng.normal(0, 0.1, 1000)),
        "few outliers": np.where(rng.random(1000) < 0.03, 5.0, 1.0) * np.exp(rng.normal(0, 0.01, 1000)),
        "one value": np.ones(1000),
    }[made]
    assert not said(sample_doubts(samples.reshape(40, 25).tolist()), "two speeds")


def test_a_clock_that_stands_still_is_a_doubt() -> None:
    assert said(sample_doubts(rounds(np.ones(4)), lost=3), "the clock stood still or went backwards: in 3 of")


def test_a_device_that_wakes_up_slowly_is_warmed_up_for_as_long_as_it_is_asked() -> None:
    asleep = [3_000_000] * 500 + [1_000_000]
    brief = timed(asleep, Sampling(rounds=8, max_samples=40, max_time_s=0.04, warmup_time_s=3.0))
    awake = Sampling(rounds=8, max_samples=40, max_time_s=0.04, warmup_time_s=3.0, warmup_least_s=2.0)
    assert brief.p50_s == 3e-3
    assert timed(asleep, awake).p50_s == 1e-3
