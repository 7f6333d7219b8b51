"""Runs against a baseline: what regresses, what may not be compared, and what cannot be read."""

from __future__ import annotations

import dataclasses
import json

import pytest

from harness.errors import UsageError
from harness.records import Kind, Record
from harness.report import changes
from harness.report.baseline import diff
from harness.report.history import runs_in, runs_of
from harness.report.regression.difference import Difference
from harness.report.results import write
from tests.helpers.results import MACHINE, latency, latency_record, outputs_record, run


def statuses(found: list[Difference]) -> dict[str, str]:
    return {difference.figure: difference.status for difference in found}


def test_identical_runs_are_the_same_in_every_figure():
    records = [outputs_record(), latency_record()]
    assert {difference.status for difference in diff(records, records)} == {"same"}


def test_a_slowdown_is_a_regression_that_names_case_and_figures():
    found = diff([latency_record(seed=1), latency_record(seed=3)], [latency_record(seed=2, p50_s=1.2e-3)])
    assert statuses(found) == {"verdict": "same", "p50_s": "regression"}
    said = str(found[-1])
    assert said.startswith('mnist[fp16] latency on onnxruntime default {"x": [1, 28, 28]}: p50_s 1.0')
    assert "is beyond" in said


def test_a_failure_without_figures_is_no_new_case():
    failed = dataclasses.replace(outputs_record(), profile=None, shapes={}, data={}, verdict="fail")
    assert {d.status for d in diff([outputs_record()], [outputs_record(), failed])} == {"same"}


def test_a_speedup_is_an_improvement():
    assert statuses(diff([latency_record(p50_s=1.2e-3)], [latency_record()]))["p50_s"] == "improvement"


@pytest.mark.parametrize("key", list(MACHINE))
def test_latency_on_another_machine_is_never_compared(key):
    elsewhere = latency_record(p50_s=9e-3, machine=MACHINE | {key: "other"})
    found = diff([latency_record()], [elsewhere])
    assert statuses(found)["p50_s"] == "not comparable"
    assert f"{key}: {MACHINE[key]} -> other" in found[-1].text


def test_latency_of_an_unknown_machine_is_never_compared():
    found = diff([latency_record(machine={})], [latency_record(machine={})])
    assert found[-1].status == "not comparable"


def test_of_several_baseline_runs_those_on_the_same_machine_are_taken():
    elsewhere = [latency_record(p50_s=5e-3, machine=MACHINE | {"driver": "1"})]
    same = [latency_record(seed=seed) for seed in range(3)]
    assert statuses(diff(elsewhere + same, [latency_record(seed=9)]))["p50_s"] == "same"


def test_repeats_of_a_suspicion_count_as_runs():
    again = [latency_record(seed=5).data["host"]] * 2
    once_slow = latency_record(p50_s=1.08e-3, data={"repeats": again})
    assert statuses(diff([latency_record(seed=1)], [once_slow]))["p50_s"] == "same"


def test_an_engine_measured_in_turn_with_the_baselines_is_compared_with_that_alone():
    base = latency_record(p50_s=5e-4, manifest="old")
    before = latency_record(seed=4, p50_s=5e-4, manifest="older")
    beside = {"manifest": "old", "host": latency_record(seed=7).data["host"]}
    found = diff([before, base], [latency_record(seed=8, data={"interleaved": beside})])
    assert statuses(found)["p50_s"] == "same"
    stale = {**beside, "manifest": "another"}
    assert (
        statuses(diff([before, base], [latency_record(seed=8, data={"interleaved": stale})]))["p50_s"]
        == "regression"
    )


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (2e-4, 2.1e-4, "same"),
        (2e-4, 2.9e-4, "same"),
        (2e-4, 4e-4, "regression"),
        (4e-4, 2e-4, "improvement"),
        (2e-4, "nan", "regression"),
        (2e-4, "inf", "regression"),
        ("nan", 2e-4, "same"),
        ("nan", "nan", "same"),
    ],
)
def test_mre_is_worse_only_beyond_growth_and_step(old, new, status):
    assert statuses(diff([outputs_record(mre=old)], [outputs_record(mre=new)]))["mre"] == status


def test_nan_counts_wherever_it_stands():
    steady, broken = outputs_record(), outputs_record(mre="nan")
    for new in ([steady, broken], [broken, steady]):
        assert statuses(diff([steady], new))["mre"] == "regression"
    for base in ([steady, broken], [broken, steady]):
        assert statuses(diff(base, [outputs_record(mre=1e-2)]))["mre"] == "regression"
        assert statuses(diff(base, [steady]))["mre"] == "same"


def test_each_machine_of_merged_runs_is_compared_by_itself():
    other = MACHINE | {"device": "other"}
    base = [latency_record(seed=s, **on) for s in (0, 5) for on in ({}, {"machine": other, "p50_s": 3e-3})]
    slow, same = latency_record(seed=1, p50_s=1.2e-3), latency_record(seed=2, machine=other, p50_s=3e-3)
    for new in ([slow, same], [same, slow]):
        found = [(d.status, "other" in d.text) for d in diff(base, new) if d.figure == "p50_s"]
        assert sorted(found) == [("regression", False), ("same", True)]


def broken(kind: Kind = "outputs", **fields) -> Record:
    """What is left of a test that broke before it told anything."""
    return Record(kind, "mnist", "fp16", "onnxruntime", "error", **fields)


def test_a_property_that_no_longer_holds_is_a_regression():
    holds = dataclasses.replace(outputs_record(), kind="metamorphic", data={"property": "rows"})
    broke = dataclasses.replace(holds, verdict="fail")
    assert statuses(diff([holds], [broke])) == {"verdict": "regression"}


def test_a_test_that_breaks_before_it_tells_of_shapes_is_a_regression():
    found = diff([outputs_record(), latency_record()], [broken(), latency_record()])
    assert [(d.text, d.status) for d in found if d.key.kind == "outputs"] == [
        ("pass -> error", "regression"), ("is in the baseline alone", "gone"),
    ]  # fmt: skip


def test_a_test_that_broke_before_and_breaks_again_is_the_same():
    assert {d.status for d in diff([broken()], [broken()])} == {"same"}


def test_a_test_that_told_all_its_shapes_is_not_counted_twice():
    found = diff([latency_record(seed=s) for s in (0, 5)], [latency_record(p50_s=2e-3), broken("latency")])
    assert [d.status for d in found].count("regression") == 1


def test_interleaved_rounds_that_do_not_pair_are_not_comparable():
    beside = {"manifest": "old", "host": latency(7, rounds=9).to_json()}
    found = diff([latency_record(manifest="old")], [latency_record(data={"interleaved": beside})])[-1]
    assert found.status == "not comparable"
    assert "do not pair: 9 beside 10" in found.text


@pytest.mark.parametrize("sizes", [[0, 200], [-5, 205]])
def test_rounds_without_samples_are_no_readable_latency(sizes):
    host = {**latency().to_json(), "round_sizes": sizes}
    assert diff([latency_record()], [latency_record(data={"host": host})])[-1].status == "not comparable"


def test_a_task_metric_that_drops_is_a_regression():
    def accuracy(drop: float):
        return dataclasses.replace(outputs_record(), kind="accuracy", data={"drop": drop})

    assert statuses(diff([accuracy(0.001)], [accuracy(0.02)]))["drop"] == "regression"
    assert statuses(diff([accuracy(0.001)], [accuracy(0.004)]))["drop"] == "same"


def test_a_verdict_that_leaves_pass_is_a_regression():
    worse = outputs_record(verdict="precision-limited")
    found = diff([outputs_record()], [worse])
    assert found[0].status == "regression"
    assert found[0].text == "pass -> precision-limited"


def test_cases_in_one_of_both_runs_are_named():
    found = diff([outputs_record("a")], [outputs_record("b")])
    assert [(d.key.model, d.status) for d in found] == [("a", "gone"), ("b", "new")]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "x" * 10_000, "a\nb", "naïve🦀"])
def test_hostile_names_are_compared_like_others(name):
    assert {d.status for d in diff([outputs_record(name)], [outputs_record(name)])} == {"same"}


def test_an_unreadable_latency_is_one_line_that_names_the_case():
    broken = latency_record(data={"host": {"samples_s": []}})
    found = diff([latency_record()], [broken])[-1]
    assert found.status == "not comparable"
    assert "mnist[fp16] latency" in found.text
    assert "no readable latency" in found.text
    assert "\n" not in str(found)


def test_a_folder_of_runs_is_read_oldest_first(tmp_path):
    for name, day in (("b", 2), ("a", 3), ("c", 1)):
        write(run(outputs_record(), name=name, started=f"2026-06-0{day}T00:00:00+00:00"), tmp_path / name)
    assert [found.run for found in runs_in(tmp_path)] == ["c", "b", "a"]
    assert [found.run for found in runs_of([tmp_path / "a", tmp_path])] == ["c", "b", "a"]


def unreadable(folder, case):
    file = folder / "results.json"
    text = json.dumps(run(outputs_record()).to_json())
    contents = {"truncated": text[:-20], "not json": "<html>", "foreign": "[1]", "newer": '{"schema": 99}',
                "older": '{"schema": 0}', "binary": "\x00\x01"}  # fmt: skip
    if case in contents:
        file.write_text(contents[case])
    return file if case != "empty folder" else folder


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing", "no such file or folder"),
        ("empty folder", "holds no results.json"),
        ("truncated", "truncated or not JSON"),
        ("not json", "truncated or not JSON"),
        ("binary", "truncated or not JSON"),
        ("foreign", "no `schema` number"),
        ("newer", "schema = 99"),
        ("older", "schema = 0"),
    ],
)
def test_a_baseline_that_cannot_be_read_is_one_line_naming_the_file(tmp_path, case, said):
    path = unreadable(tmp_path, case)
    with pytest.raises(UsageError, match=said) as caught:
        runs_in(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_engine_of_one_side_alone_is_one_line_and_a_lost_shape_is_its_own():
    shapes = [outputs_record("a", shapes={"x": [n, 4]}) for n in (1, 2, 3)]
    both, other = outputs_record("b"), outputs_record("b", shapes={"x": [9, 4]})
    assert changes.lines(diff([*shapes, both, other], [both])) == [
        "against the baseline: 4 gone, 2 same",
        "gone: a[fp16] engine on onnxruntime: verdict is in the baseline alone",
        'gone: b[fp16] outputs on onnxruntime default {"x": [9, 4]}: verdict is in the baseline alone',
    ]
