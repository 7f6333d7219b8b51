"""A run against its baseline while it goes on: what regressed, and measuring again on a suspicion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.latency import Latency
from harness.report.baseline import Difference, diff
from harness.report.changes import regressions
from harness.report.keys import case_key
from harness.report.records import Record

ATTEMPTS = 2
"""How often a latency that looks slower is measured again: a machine that was slow once is no regression."""


def regressed(records: Sequence[Record], baseline: Sequence[Record]) -> list[Difference]:
    """The regressions of `records`; cases that the baseline alone has say nothing here."""
    keys = {case_key(record) for record in records}
    return regressions(diff([record for record in baseline if case_key(record) in keys], records))


def retaken(record: Record, baseline: Sequence[Record], take: Callable[[], Latency]) -> Record:
    """A latency record, with `repeats` in its data for as long as it looks slower than the baseline."""
    for _ in range(ATTEMPTS):
        if not any(difference.figure == "p50_s" for difference in regressed([record], baseline)):
            break
        again = [*record.data.get("repeats", ()), take().to_json()]
        record = replace(record, data={**record.data, "repeats": again})
    return record


def explain(found: Sequence[Difference]) -> str:
    """What a failing test says."""
    return "regressed against the baseline:\n" + "\n".join(f"  {difference}" for difference in found)
