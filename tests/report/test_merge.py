"""Merging shards: idempotent, free of order, conflicts named."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.report.merge import merge
from harness.report.plain import dumps
from harness.report.results import Results, TestOutcome, read, write
from tests.helpers.results import latency_record, outputs_record, run


def text(results: Results) -> str:
    return dumps(results.to_json())


SHARDS = [
    run(outputs_record("a"), outputs_record("b"), name="r1"),
    run(outputs_record("c"), latency_record("c"), name="r2", started="2026-06-01T01:00:00+00:00"),
    run(latency_record("c", seed=3), name="r3", exit_status=1, not_fetched=("a", "zoo")),
]


def test_records_of_all_shards_arrive_with_their_run():
    joined = merge(SHARDS).results
    assert [(r.run, r.model) for r in joined.records] == [
        ("r2", "c"), ("r2", "c"), ("r1", "a"), ("r1", "b"), ("r3", "c"),
    ]  # fmt: skip
    assert (joined.exit_status, joined.complete, joined.not_fetched) == (1, True, ("zoo",))
    assert {test.run for test in joined.tests} == {"r1", "r2", "r3"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_order_does_not_matter(order):
    assert text(merge([SHARDS[i] for i in order]).results) == text(merge(SHARDS).results)


def test_merging_again_changes_nothing():
    once = merge(SHARDS).results
    for again in ([once], [once, once], [once, SHARDS[1]], [SHARDS[0], once]):
        assert text(merge(again).results) == text(once)


def test_merging_in_steps_is_merging_at_once():
    steps = merge([merge(SHARDS[:2]).results, SHARDS[2]]).results
    assert text(steps) == text(merge(SHARDS).results)


def test_a_merged_file_is_read_back_and_merges_again(tmp_path):
    once = merge(SHARDS).results
    back = read(write(once, tmp_path))
    assert text(merge([back, SHARDS[0]]).results) == text(once)


def test_one_run_stays_as_it_is():
    assert merge([SHARDS[0]]).results == SHARDS[0]


def test_nothing_to_merge_is_one_line():
    with pytest.raises(UsageError, match="no runs to merge"):
        merge([])


def test_verdicts_that_differ_on_one_machine_are_named():
    other = run(outputs_record("a", verdict="engine-suspect"), name="r9")
    conflicts = merge([SHARDS[0], other]).conflicts
    assert len(conflicts) == 1
    assert "a[fp16] outputs on onnxruntime" in conflicts[0]
    assert "r1: pass, r9: engine-suspect" in conflicts[0]


def test_verdicts_that_differ_between_machines_are_no_conflict():
    other = run(outputs_record("a", verdict="engine-suspect"), name="r9", environment={"processor": "Arm"})
    assert merge([SHARDS[0], other]).conflicts == ()


def test_latencies_measured_twice_are_no_conflict():
    assert merge(SHARDS).conflicts == ()


def test_two_copies_of_one_run_that_disagree_are_named():
    changed = dataclasses.replace(SHARDS[0], records=(outputs_record("a", mre=0.5),))
    conflicts = merge([SHARDS[0], changed]).conflicts
    assert any("records differ between two copies of run r1" in line for line in conflicts)


def test_a_journal_and_the_finished_file_of_a_run_become_the_finished_one():
    done = run(outputs_record("a", nodeid="t"), name="r1")
    begun = TestOutcome("t", "error", message="the run ended during this test")
    journal = dataclasses.replace(done, complete=False, records=(), tests=(begun,))
    for order in ([done, journal], [journal, done]):
        assert text(merge(order).results) == text(done)


shards = st.builds(
    lambda name, models: run(*[outputs_record(m, verdict=v) for m, v in models], name=name),
    st.sampled_from(["r1", "r2", "r3"]),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["pass", "fail"])), max_size=3),
)


@given(st.lists(shards, min_size=1, max_size=4), st.randoms())
def test_any_shards_merge_alike_in_any_order_and_again(parts, random):
    shuffled = random.sample(parts, len(parts))
    once = merge(parts)
    assert text(merge(shuffled).results) == text(once.results)
    assert merge(shuffled).conflicts == once.conflicts
    assert text(merge([once.results, *parts]).results) == text(once.results)
