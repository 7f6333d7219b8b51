"""What a lower precision should not be is said, and nothing else is."""

from __future__ import annotations

import dataclasses

from harness.report.sanity import doubtful, not_kept, review
from tests.helpers.results import engine_record, latency_record, outputs_record


def warnings(*records):
    return [warning for record in review(records) for warning in record.warnings]


def test_slower_than_fp32_is_said():
    found = warnings(latency_record(precision="fp32"), latency_record(precision="int8", p50_s=2e-3, seed=1))
    assert len(found) == 1
    assert found[0].startswith("slower than fp32: 2.0")


def test_bigger_than_fp32_is_said():
    fp32 = dataclasses.replace(engine_record(precision="fp32"), data={"engine_bytes": 1000})
    found = warnings(fp32, dataclasses.replace(engine_record(), data={"engine_bytes": 1500}))
    assert found == ["bigger than fp32: 1,500 against 1,000 bytes"]


def test_more_accurate_than_fp32_is_said():
    found = warnings(outputs_record(precision="fp32", mre=1e-7), outputs_record(mre=1e-8))
    assert found == ["more accurate than fp32: mre 1.0e-08 against 1.0e-07; was the precision applied?"]


def test_what_is_as_expected_is_not_said():
    good = [
        latency_record(precision="fp32", p50_s=2e-3),
        latency_record(),
        outputs_record(precision="fp32", mre=1e-7),
    ]
    assert warnings(*good, outputs_record()) == []


def test_precisions_are_compared_at_the_same_shapes_backend_and_run_only():
    slow = latency_record(p50_s=9e-3)
    for change in ({"shapes": {"x": [2, 9]}}, {"backend": "tensorrt"}, {"run": "r2"}, {"model": "other"}):
        fp32 = dataclasses.replace(latency_record(precision="fp32"), **change)
        assert warnings(fp32, slow) == []


def test_a_review_is_the_same_the_second_time():
    records = review([latency_record(precision="fp32"), latency_record(p50_s=9e-3)])
    assert review(records) == records


def test_records_without_figures_are_left_alone():
    records = (outputs_record(precision="fp32", mre=None), outputs_record(), latency_record(data={"host": 3}))
    assert review(records) == records


def test_doubts_are_counted_by_reason():
    def doubted(*doubts):
        record = latency_record()
        return dataclasses.replace(record, data={**record.data, "host": {"doubts": list(doubts)}})

    records = [
        doubted("drift: the last third is +9%", "other load: 30%"),
        doubted("other load: 20%"),
        doubted(),
    ]
    assert doubtful(records) == ["latencies in doubt: 2 of 3 (other load 2, drift 1)"]
    assert doubtful([doubted()]) == []


def timed(**fields):
    return latency_record(manifest="abc", data={"outputs": {"mre": 1e-4}}, **fields)


def test_a_latency_says_what_the_outputs_test_said_of_the_same_engine():
    alone, beside = review([timed()])[0], review([timed(), outputs_record(manifest="abc")])[0]
    assert (alone.verdict, alone.data["outputs"]["verdict"]) == ("pass", "not run")
    assert (beside.verdict, beside.data["outputs"]["verdict"]) == ("pass", "pass")


def test_a_latency_of_an_engine_whose_outputs_failed_is_unverified():
    failed = outputs_record(manifest="abc", verdict="engine-suspect", profile="large")
    assert review([timed(), outputs_record(manifest="abc"), failed])[0].verdict == "unverified"
    other = outputs_record(manifest="xyz", verdict="engine-suspect")
    assert review([timed(), other])[0].verdict == "pass"


def test_engines_that_the_cache_did_not_keep_are_told_once():
    full = dataclasses.replace(engine_record(), data={"reason": "not kept: the disk is full"})
    kept = dataclasses.replace(engine_record(), data={"reason": "hit"})
    assert not_kept([full, full, kept]) == ["engines are not kept in the cache: the disk is full"]
