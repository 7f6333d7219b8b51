"""The gate: identical runs raise no alarm, a slowdown of 10 % does, and every rule can fail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.report.gate import Gate, compare, run_cov
from tests.helpers.noise import ROUNDS, Array, in_turn, recorded, simulated, stretch

PAIRS = 200
STEADY = [1.0, 1.001, 0.999, 1.002, 0.998, 1.0, 1.001, 1.0, 0.999, 1.0]


def alarms(pair: Callable[[], tuple[Array, Array]], slowdown: float, *, paired: bool) -> int:
    """How many of `PAIRS` pairs are found slower, the new side slowed by a factor."""
    found = [compare([old], [new * slowdown], paired=paired) for old, new in (pair() for _ in range(PAIRS))]
    return sum(change.finding == "slower" for change in found)


@pytest.mark.parametrize("kind", ["matmul", "memory", "python"])
def test_interleaved_runs_on_a_recorded_noisy_machine(kind):
    rng, series = np.random.default_rng(0), recorded()[kind]

    def pair() -> tuple[Array, Array]:
        return in_turn(stretch(series, rng, 2 * ROUNDS))

    assert alarms(pair, 1.0, paired=True) <= 0.01 * PAIRS
    assert alarms(pair, 1.1, paired=True) >= 0.95 * PAIRS


def test_interleaved_runs_on_a_simulated_noisy_machine():
    rng = np.random.default_rng(1)

    def pair() -> tuple[Array, Array]:
        return in_turn(simulated(rng, 2 * ROUNDS, shift=0.02))

    assert alarms(pair, 1.0, paired=True) <= 0.01 * PAIRS
    assert alarms(pair, 1.1, paired=True) >= 0.95 * PAIRS


def test_runs_at_different_times_whose_machine_comes_back_within_a_percent():
    rng = np.random.default_rng(2)

    def pair() -> tuple[Array, Array]:
        return simulated(rng, shift=0.007), simulated(rng, shift=0.007)

    assert alarms(pair, 1.0, paired=False) <= 0.01 * PAIRS
    assert alarms(pair, 1.1, paired=False) >= 0.95 * PAIRS


def nightly(draw: Callable[[], Array], slowdown: float) -> bool:
    """Five nights of baseline; a suspicion is measured twice more, as the latency suite does."""
    base, new = [draw() for _ in range(5)], [draw() * slowdown]
    while len(new) < 3 and compare(base, new).finding == "slower":
        new.append(draw() * slowdown)
    return compare(base, new).finding == "slower"


@pytest.mark.parametrize("kind", ["matmul", "memory", "python"])
def test_nights_on_a_recorded_noisy_machine_raise_no_false_alarm(kind):
    rng, series = np.random.default_rng(3), recorded()[kind]
    assert sum(nightly(lambda: stretch(series, rng), 1.0) for _ in range(PAIRS)) <= 0.01 * PAIRS


def test_without_the_minimum_effect_identical_runs_would_raise_alarms():
    rng, careless = np.random.default_rng(4), Gate(min_effect=0.0, cov_factor=0.0)
    pairs = [(simulated(rng), simulated(rng)) for _ in range(PAIRS)]
    found = sum(compare([old], [new], careless).finding == "slower" for old, new in pairs)
    assert found > 0.1 * PAIRS


def test_a_change_within_the_minimum_effect_is_the_same_however_significant():
    change = compare([STEADY], [[1.025 * t for t in STEADY]])
    assert change.p < 0.001
    assert (change.finding, change.why) == ("same", f"+2.5% is within {change.smallest_effect:.1%}")


@pytest.mark.parametrize(("factor", "finding"), [(1.1, "slower"), (1 / 1.1, "faster")])
def test_a_clear_change_is_found_on_either_side(factor, finding):
    assert compare([STEADY], [[factor * t for t in STEADY]]).finding == finding


def test_too_few_rounds_are_undecided():
    change = compare([[1.0, 1.0]], [[1.5, 1.5]])
    assert change.finding == "undecided"
    assert "so few rounds" in change.why


def test_a_run_that_was_slow_once_is_no_regression():
    slow, usual = [1.08 * t for t in STEADY], [1.02 * t for t in STEADY]
    assert compare([STEADY], [slow]).finding == "slower"
    once = compare([STEADY], [slow, slow, usual])
    assert (once.finding, once.why) == ("same", "+8.0%, but not in each of 3 runs")


def test_the_cov_of_runs_replaces_the_assumed_one_as_runs_come_in():
    gate = Gate()
    alike = [run_cov([STEADY] * count, gate) for count in (1, 3, 10)]
    assert alike == sorted(alike, reverse=True)
    apart = [[level * t for t in STEADY] for level in (0.8, 1.0, 1.2, 0.9, 1.1)]
    assert run_cov(apart, gate) > 0.1
    assert compare(apart, [[1.2 * t for t in STEADY]]).finding == "same"


def test_interleaving_sees_through_a_machine_that_changes_its_state():
    state = np.repeat([1.0, 1.3, 1.0, 1.6], 5)
    old, new = state * np.resize(STEADY, 20), state * np.resize(STEADY[::-1], 20)
    assert compare([old], [new], paired=True).finding == "same"
    assert compare([old], [new * 1.1], paired=True).finding == "slower"
    assert compare([old], [new * 1.1]).finding != "slower"


def test_p_of_interleaved_runs_is_that_of_chance():
    rng = np.random.default_rng(5)
    pairs = [np.exp(rng.normal(0, 0.05, (2, 40))) for _ in range(5 * PAIRS)]
    found = [compare([old], [new], paired=True) for old, new in pairs]
    assert sum(change.effect > 0 and change.p < 0.01 for change in found) <= 0.02 * len(found)


def test_interleaved_runs_with_too_few_pairs_are_undecided():
    change = compare([STEADY[:5]], [[1.1 * t for t in STEADY[:5]]], paired=True)
    assert (change.finding, change.p) == ("undecided", 0.5**5)


def test_interleaved_runs_without_any_difference_are_the_same():
    change = compare([STEADY], [STEADY], paired=True)
    assert (change.finding, change.p) == ("same", 1.0)


def test_interleaved_rounds_that_do_not_pair_are_a_mistake():
    with pytest.raises(UsageError, match="do not pair: 10 beside 9"):
        compare([STEADY], [STEADY[:9]], paired=True)


def test_steady_nights_let_one_run_show_a_change_that_the_assumed_cov_would_hide():
    slower = [1.04 * t for t in STEADY]
    assert compare([STEADY], [slower]).finding == "same"
    assert compare([STEADY] * 10, [slower]).finding == "slower"


def test_runs_measured_again_never_narrow_what_the_baseline_shows():
    slower = [1.04 * t for t in STEADY]
    assert compare([STEADY], [slower] * 3).smallest_effect >= compare([STEADY], [slower]).smallest_effect
    apart = [[level * t for t in STEADY] for level in (1.0, 1.2, 1.1)]
    assert compare([STEADY] * 10, apart).smallest_effect > 0.1


positive = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=12)


@given(positive, positive)
def test_the_finding_turns_with_the_sides_and_never_crashes(old, new):
    there, back = compare([old], [new]), compare([new], [old])
    assert there.effect == pytest.approx(1 / (1 + back.effect) - 1)
    assert {there.finding, back.finding} != {"slower"}
