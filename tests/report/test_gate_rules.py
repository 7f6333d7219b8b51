"""The gate's rules, each by its own figure: standard errors, effects, significance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.report.gate import Gate, compare, run_cov
from harness.report.gate import _standard_error as standard_error

ALONE = Gate(assumed_cov=0.0, assumed_runs=1)


def moving(rng: np.random.Generator, count: int, memory: float) -> np.ndarray:
    """A series around 1 whose neighbours move together: autocorrelation `memory` at a distance of one."""
    noise, series = rng.normal(0, 0.01, count + 200), np.zeros(count + 200)
    for k in range(1, len(series)):
        series[k] = memory * series[k - 1] + noise[k]
    return 1 + series[200:]


@pytest.mark.parametrize("memory", [0.0, 0.4, 0.7])
def test_the_standard_error_is_what_medians_of_such_series_show(memory: float) -> None:
    rng = np.random.default_rng(int(10 * memory))
    runs = [moving(rng, 600, memory) for _ in range(300)]
    seen = float(np.std([np.median(run) for run in runs]))
    told = float(np.median([standard_error(run) for run in runs]))
    assert told == pytest.approx(seen, rel=0.2)


def test_neighbours_that_move_together_count_once() -> None:
    rng = np.random.default_rng(1)
    once = 1 + rng.normal(0, 0.01, 200)
    ratio = standard_error(np.repeat(once, 4)) / standard_error(once)
    assert ratio > 0.85
    assert standard_error(np.resize([0.99, 1.01], 100)) == pytest.approx(
        1.2533 * 1.4826 * 0.01 / 10, rel=1e-6
    )


def test_a_series_that_never_leaves_its_course_is_not_worth_nothing() -> None:
    steady = standard_error(np.linspace(0.9, 1.1, 1000))
    spread = 1.2533 * 1.4826 * 0.05
    assert steady == pytest.approx(spread / math.sqrt(1000 * 0.1 / 1.9), rel=0.01)
    assert standard_error(np.linspace(0.9, 1.1, 5)) <= spread
    assert standard_error(np.ones(10)) == 0.0


def test_the_cov_joins_runs_and_rounds() -> None:
    flat = [[level] * 10 for level in (0.98, 1.0, 1.02)]
    assert run_cov(flat, ALONE) == pytest.approx(math.sqrt(8e-4 / 3), rel=1e-6)
    assumed = Gate(assumed_cov=0.015, assumed_runs=4)
    assert run_cov([[1.0] * 10], assumed) == pytest.approx(0.015)
    assert run_cov([[1.0] * 10] * 5, assumed) == pytest.approx(0.015 * math.sqrt(4 / 8))
    rng = np.random.default_rng(2)
    run = list(1 + rng.normal(0, 0.01, 50))
    assert run_cov([run], assumed) == pytest.approx(math.hypot(0.015, standard_error(np.array(run))))


def test_effects_are_of_medians_of_runs() -> None:
    old, new = [[1.0, 1.0, 9.0]] * 3, [[1.2, 1.2, 1.2], [1.2, 1.2, 5.0], [1.2, 1.2, 0.1]]
    change = compare(old, new)
    assert (change.base_s, change.new_s) == (1.0, 1.2)
    assert change.effect == pytest.approx(0.2)


def test_the_smallest_effect_is_the_larger_of_the_minimum_and_the_noise() -> None:
    rounds = [1.0] * 10
    quiet = Gate(min_effect=0.03, cov_factor=3.0, assumed_cov=0.001)
    assert compare([rounds], [rounds], quiet).smallest_effect == pytest.approx(0.03)
    loud = Gate(min_effect=0.03, cov_factor=3.0, assumed_cov=0.02)
    assert compare([rounds], [rounds], loud).smallest_effect == pytest.approx(0.06)
    assert compare([rounds], [rounds], loud).cov == pytest.approx(0.02)


@pytest.mark.parametrize(("rounds", "least"), [(3, 1 / 20), (4, 1 / 70), (5, 1 / 252)])
def test_few_rounds_are_undecided_by_the_least_p_that_they_can_give(rounds: int, least: float) -> None:
    old, new = np.linspace(1.0, 1.01, rounds), np.linspace(1.5, 1.51, rounds)
    change = compare([old], [new])
    assert change.p == pytest.approx(least, rel=0.5)
    assert change.finding == ("slower" if least < 0.01 else "undecided")
    faster = compare([new], [old])
    assert faster.finding == ("faster" if least < 0.01 else "undecided")


def test_interleaved_pairs_have_the_least_p_of_their_number() -> None:
    for pairs, finding in ((6, "undecided"), (7, "slower")):
        old = np.linspace(1.0, 1.01, pairs)
        assert compare([old], [old * np.linspace(1.2, 1.21, pairs)], paired=True).finding == finding


def test_a_change_has_to_be_in_each_run_by_the_minimum_and_on_the_same_side() -> None:
    rng = np.random.default_rng(3)
    base = [list(1 + rng.normal(0, 0.001, 20)) for _ in range(6)]

    def finding(*levels: float) -> str:
        return compare(base, [[level * t for t in base[0]] for level in levels]).finding

    assert finding(1.2, 1.2, 1.035) == "slower"
    assert finding(1.2, 1.2, 1.025) == "same"
    assert finding(0.94, 0.94, 0.965) == "faster"
    assert finding(0.94, 0.94, 0.975) == "same"
    assert finding(1.2, 1.2, 0.8) == "same"


def test_json_has_every_figure() -> None:
    change = compare([[1.0] * 10], [[1.0] * 10])
    assert set(change.to_json()) == {
        "finding",
        "base_s",
        "new_s",
        "effect",
        "smallest_effect",
        "cov",
        "p",
        "why",
    }
