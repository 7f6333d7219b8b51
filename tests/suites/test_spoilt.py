"""300 engines spoilt on purpose, seeded: none that does harm passes, no right one fails; all: `make spoil`.

Those that pass all the same are listed in `survivors.txt`, a line `model[precision]: name  # what sees it`
each; one that is not listed fails.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.spoil import models, report
from benchmarks.spoil.bench import Bench, benches, subject_of
from benchmarks.spoil.build import edited
from benchmarks.spoil.catalogue import SEEN_BY, catalogue
from benchmarks.spoil.edits import EDITS, SCALES
from benchmarks.spoil.engines import Call, Outputs
from benchmarks.spoil.harm import harm_of
from benchmarks.spoil.judge import judge
from benchmarks.spoil.survey import Result, Survey, right
from benchmarks.spoil.world import world_of
from harness.precision import Precision
from harness.storage.cache import Cache

ROOT = Path(__file__).resolve().parents[2]
EACH = 20
CASES = {
    "detector": ("fp16", "int8"),
    "classifier": ("fp32", "int8+fp16"),
    "segmenter": ("bf16", "int8"),
    "decoder": ("fp16", "int8"),
    "embedder": ("fp32", "bf16"),
    "recurrent": ("fp16", "bf16"),
    "tabular_mlp": ("fp32", "fp16", "int8"),
}
SURVIVORS = Path(__file__).with_name("survivors.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("spoilt")
    models.write(made)
    return made


def opened(folder: Path, name: str, *precisions: str):
    """The benches of one model."""
    place = folder if name in models.MAKERS else ROOT / "suites" / "models"
    subject = subject_of(place / name / "spec.toml", Cache(folder / "cache"))
    return benches(subject, tuple(map(Precision, precisions)))


def listed() -> set[str]:
    lines = SURVIVORS.read_text(encoding="utf-8").splitlines()
    return {line.partition("  # ")[0] for line in lines if line and not line.startswith("#")}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_would_harm_a_user_does_not_pass(folder: Path, name: str) -> None:
    results: list[Result] = []
    with opened(folder, name, *CASES[name]) as found:
        for bench in found:
            survey = Survey(bench)
            assert survey.broken == ""
            drawn = random.Random(bench.label)
            results += [survey.spoilt(spoil) for spoil in drawn.sample(catalogue(), EACH)]
            results += survey.edits(drawn.sample([*EDITS, *SCALES], 4))
            results += survey.variants()
    counts = Counter(one.outcome for one in results)
    assert counts["caught"] > 0.4 * EACH * len(CASES[name])
    assert counts["right"] > 0
    assert [one for one in results if one.outcome == "false alarm"] == []
    harmful = {one.key: one.why for one in results if one.outcome == "harmful"}
    assert {key: why for key, why in harmful.items() if key not in listed()} == {}


def test_every_way_has_a_name_of_its_own_and_what_sees_it() -> None:
    ways = catalogue()
    names = [way.name for way in ways] + [*EDITS, *SCALES]
    assert len(set(names)) == len(names) >= 150
    assert {way.family for way in ways} | {"edits"} == set(SEEN_BY)


@pytest.fixture(scope="module")
def bench(folder: Path):
    with opened(folder, "detector", "fp16") as found:
        yield next(found)


def zeroed_scores(call: Call) -> Outputs:
    value = np.array(call.value)
    value[:, 4:] = 0
    return {call.target: value}


def test_harm_is_told_from_what_is_none(bench: Bench) -> None:
    world = world_of(bench)

    def rule(spoiler) -> tuple[bool, str]:
        found = harm_of(bench, bench.spoilt(spoiler, 0.5), world)
        return found.harmful, found.rule

    assert rule(right) == (False, "idle")
    assert rule(lambda call: {call.target: call.value * np.float32(1.002)}) == (False, "within")
    assert rule(lambda call: {call.target: call.value * np.float32(1.01)}) == (True, "whole")
    assert rule(zeroed_scores) == (True, "slice")
    assert rule(lambda call: {}) == (True, "structure")
    assert rule(lambda call: {call.target: call.value * np.float32(np.nan)}) == (True, "structure")


def stale_after_max(call: Call) -> Outputs:
    """Wrong at min directly after max, which the outputs suite never runs in this order."""
    (part,), (shape,), before = call.ranges.values(), call.shapes.values(), [*call.shapes_before.values()]
    return {call.target: 0 * call.value} if shape == part.min and before == [part.max] else call.outputs


def test_a_judgement_is_that_of_the_suites(bench: Bench) -> None:
    assert judge(bench, bench.spoilt(right, 0.5), whole=True).failed == ""
    doubled = judge(bench, bench.spoilt(lambda call: {call.target: 2 * call.value}, 0.5))
    assert doubled.failed.startswith("outputs: engine-suspect at profile 'default'")
    assert judge(bench, bench.spoilt(stale_after_max, 0.5)).failed == "metamorphic: context-reuse"


def test_an_edit_changes_the_engine_and_nothing_else(bench: Bench) -> None:
    met = world_of(bench)[0]
    with edited(bench, "a filter negated", 0.5) as engine:
        assert engine is not None
        assert not np.allclose(engine.run(met.feeds)["detections"], met.right["detections"])
    with edited(bench, "gates in another order", 0.5) as engine:
        assert engine is None
    with edited(bench, "one scale half", 0.5) as engine:
        assert engine is None
    assert np.array_equal(bench.right.run(met.feeds)["detections"], met.right["detections"])


def test_targets_decide_the_exit_code() -> None:
    def results(precision: str, outcome: str, count: int) -> list[Result]:
        return [Result("m", precision, str(k), "values", outcome) for k in range(count)]

    assert report.above_target(results("int8", "caught", 99) + results("int8", "harmful", 1)) == []
    assert len(report.above_target(results("int8", "caught", 98) + results("int8", "harmful", 2))) == 1
    assert len(report.above_target(results("fp16", "caught", 999) + results("fp16", "harmful", 1))) == 1
    assert len(report.above_target(results("fp32", "false alarm", 1))) == 1
    text = report.table(results("fp16", "harmful", 1), 1.0)
    assert SEEN_BY["values"] in text
    assert "m[fp16]: 0" in text
