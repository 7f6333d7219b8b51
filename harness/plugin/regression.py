"""A run against its baseline while it goes on: what regressed, and measuring again on a suspicion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.latency.samples import Latency
from harness.records import Record
from harness.report.baseline import diff
from harness.report.changes import regressions
from harness.report.gate import DEFAULT_GATE, Gate
from harness.report.keys import case_key
from harness.report.regression.difference import Difference
from harness.report.regression.figures import FIGURES

Taken = Mapping[str, Latency]
ATTEMPTS = 2
"""How often a latency is measured again where the first answer is not clear."""
NOISY = 0.05
"""Of interleaved runs: the smallest effect above which noise hides too much."""


def regressed(
    records: Sequence[Record], baseline: Sequence[Record], gate: Gate = DEFAULT_GATE
) -> list[Difference]:
    """The regressions of `records`; cases that the baseline alone has say nothing here."""
    keys = {case_key(record) for record in records}
    return regressions(diff([record for record in baseline if case_key(record) in keys], records, gate))


def retaken(record: Record, baseline: Sequence[Record], take: Callable[[], Taken]) -> Record:
    """A latency record, with `repeats` in its data for as long as the comparison is not clear."""
    for _ in range(ATTEMPTS):
        if not unclear(record, baseline):
            break
        record = _repeated(record, take())
    return record


def unclear(record: Record, baseline: Sequence[Record]) -> bool:
    """Whether a latency looks slower, as a machine that was slow once does, or drowns in noise.

    More rounds decide what too few cannot.  Noise is a reason only beside an interleaved baseline: more
    pairs narrow it there.
    """
    key = case_key(record)
    found = diff([one for one in baseline if case_key(one) == key], [record])
    changes = [difference for difference in found if difference.figure in FIGURES]
    if any(change.status in ("regression", "undecided") for change in changes):
        return True
    return "interleaved" in record.data and any(c.data.get("smallest_effect", 0) > NOISY for c in changes)


def _repeated(record: Record, found: Taken) -> Record:
    data = {**record.data, "repeats": [*record.data.get("repeats", ()), found["host"].to_json()]}
    if "base" in found:
        beside = data["interleaved"]
        again = [*beside.get("repeats", ()), found["base"].to_json()]
        data["interleaved"] = {**beside, "repeats": again}
    return replace(record, data=data)


def explain(found: Sequence[Difference]) -> str:
    """What a failing test says."""
    return "regressed against the baseline:\n" + "\n".join(f"  {difference}" for difference in found)
