"""Latencies against a baseline: tails, speeds, creep, the anchor, and what one run cannot tell."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gate import COUNT, KINDS, NIGHTS, ROUNDS, SAMPLES, first_told, in_turn, night, wide
from harness.cli import main
from harness.latency.samples import Latency
from harness.records import Record
from harness.report.baseline import diff
from harness.report.gate import Change, Gate, holm
from harness.report.history import records_of, runs_in
from harness.report.regression.creep import creeping
from harness.report.regression.difference import Difference
from harness.report.regression.figures import joined
from harness.report.results import write
from tests.helpers.results import latency_record, run


def record(times: np.ndarray, **fields: object) -> Record:
    made = latency_record(**fields)
    host = Latency(tuple((1e-3 * times).tolist()), (SAMPLES,) * ROUNDS).to_json()
    return dataclasses.replace(made, data={**made.data, "host": host})


def steady(seed: int) -> np.ndarray:
    return wide(np.random.default_rng(seed), 0.005)


def told(base: list[Record], new: Record, gate: Gate | None = None) -> dict[str, Difference]:
    found = diff(base, [new], gate or Gate())
    return {d.figure: d for d in found if d.status in ("regression", "undecided", "improvement")}


BASE = [record(steady(seed)) for seed in range(5)]


def test_calls_of_which_many_are_twice_as_slow_are_found_though_the_median_stays() -> None:
    times = steady(9)
    times[np.random.default_rng(0).random(COUNT) < 0.4] *= 2
    (found,) = told(BASE, record(times)).values()
    assert (found.figure, found.status) == ("mean_s", "regression")
    assert "p90_s +" in found.text


def test_a_long_tail_is_found_though_all_else_stays() -> None:
    times = steady(9)
    times[:: COUNT // 25] *= 10
    found = told(BASE, record(times))
    assert found.keys() & {"mean_s", "p99_s"}
    assert "p50_s" not in found


def test_what_moves_every_figure_is_one_regression_that_names_them() -> None:
    (found,) = told(BASE, record(steady(9) * 1.2)).values()
    assert found.figure == "p50_s"
    assert all(name in found.text for name in ("mean_s", "p90_s"))


def test_a_median_that_falls_while_the_tail_grows_is_told_both_ways() -> None:
    times = steady(9) * 0.8
    times[np.random.default_rng(0).random(COUNT) < 0.2] *= 5
    found = told(BASE, record(times))
    assert found["p50_s"].status == "improvement"
    assert "regression" in {d.status for d in found.values()}


def test_one_run_of_a_baseline_warns_and_does_not_fail_unless_it_is_strict() -> None:
    slow = record(steady(9) * 1.2)
    (found,) = told(BASE[:1], slow).values()
    assert found.status == "undecided"
    assert "one run of a baseline cannot tell" in found.text
    assert told(BASE[:1], slow, Gate(strict=True))["p50_s"].status == "regression"
    assert told(BASE[:2], slow)["p50_s"].status == "regression"


def test_creep_is_told_that_no_night_shows() -> None:
    nights = [record(steady(k) * 1.025**k) for k in range(5)]
    found = diff(nights[:4], [nights[4]])
    assert any("creeps: " in d.text and d.status == "regression" for d in found)
    assert not any("creeps" in d.text for d in diff(BASE[:4], [BASE[4]]))


def test_levels_that_fall_or_rest_do_not_creep() -> None:
    assert creeping([1.0] * 12) is None
    assert creeping([1.1**-k for k in range(12)]) is None
    assert creeping([1.0, 1.1, 1.2, 1.3]) is None


@pytest.mark.parametrize(("growth", "within"), [(0.025, 5), (0.01, 10)])
def test_creep_over_nights_is_told_in_time(growth: float, within: int) -> None:
    rng = np.random.default_rng(3)
    seen = [first_told(growth, rng) for _ in range(60)]
    assert np.median([k if k is not None else NIGHTS for k in seen]) <= within


def test_steady_nights_do_not_creep() -> None:
    rng = np.random.default_rng(4)
    assert sum(first_told(0.0, rng) is not None for _ in range(200)) <= 2


def test_holm_keeps_what_is_significant_among_all_and_drops_the_rest() -> None:
    made = [Change("slower", 1.0, 1.1, 0.1, 0.03, 0.01, p, "") for p in (0.001, 0.004, 0.009)]
    assert [c.finding for c in holm(made)] == ["slower", "slower", "slower"]
    made[0] = dataclasses.replace(made[0], p=0.0035)
    assert [c.finding for c in holm(made)] == ["same", "same", "same"]


@pytest.mark.parametrize("growth", [1.02, 1.0])
def test_the_anchor_is_held_against_every_new_run(
    growth: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "nights"
    write(run(BASE[0], name="release"), tmp_path / "release")
    assert main(["baseline", "pin", str(tmp_path / "release"), "--folder", str(folder)]) == 0
    assert "release is the anchor" in capsys.readouterr().out
    for k in range(3):  # A rolling baseline that has moved away from the release.
        write(
            run(record(steady(k + 20) * growth**6), name=f"n{k}", started=f"2026-06-0{k + 2}"),
            folder / f"n{k}",
        )
    found = diff(records_of(runs_in(folder)), [record(steady(9) * growth**7)])
    assert any("against the anchor" in d.text and d.status == "regression" for d in found) == (growth > 1)
    shutil.rmtree(folder / "anchor")
    assert not any("anchor" in d.text for d in diff(records_of(runs_in(folder)), [record(steady(9))]))


def test_pinning_again_takes_the_place_and_what_is_no_run_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write(run(BASE[0], name=name), tmp_path / name)
        assert main(["baseline", "pin", str(tmp_path / name), "--folder", str(tmp_path / "n")]) == 0
    assert [one.run for one in runs_in(tmp_path / "n")] == ["b"]
    assert [path.name for path in (tmp_path / "n").iterdir()] == ["anchor"]
    assert main(["baseline", "pin", str(tmp_path / "none"), "--folder", str(tmp_path / "n")]) == 4
    assert "none: is no run's folder" in capsys.readouterr().err


@given(st.lists(st.lists(st.floats(1, 2), min_size=1, max_size=9), max_size=9), st.integers(1, 30))
def test_blocks_hold_every_sample_in_order_and_enough_of_them(rounds: list[list[float]], least: int) -> None:
    every = [sample for one in rounds for sample in one]
    blocks = joined(rounds, least)
    assert [sample for block in blocks for sample in block] == (every if len(every) >= least else [])
    assert all(least <= len(block) for block in blocks)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_series_raises_alarms_and_a_tenth_is_found(kind: str) -> None:
    rng, count = np.random.default_rng(7), 10
    # Five runs of the quick kind of process, then a slow one: no figure tells that from a slowdown.
    most = 1 if kind == "two kinds of process" else 0
    assert sum(bool(night(KINDS[kind], rng, 1.0)) for _ in range(count)) <= most
    assert sum(bool(in_turn(KINDS[kind], rng, 1.0)) for _ in range(count)) == 0
    assert sum(bool(night(KINDS[kind], rng, 1.1)) for _ in range(count)) >= 0.8 * count
