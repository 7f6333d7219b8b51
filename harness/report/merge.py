"""Shards and machines joined into one results.json.

1. A merged result remembers each run it was made of (`environment["runs"]`), and every record and test
   names its run; so merging it again takes it apart first: idempotent, and free of order.
2. The same run met twice (a journal and the finished file, a shard copied twice) is joined record by record.
3. Two runs on equal machines whose verdicts on one case differ are a conflict: both records stay, and the
   conflict is named.  Latencies measured twice are no conflict: they are the runs that a baseline needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import UsageError
from harness.records import Record
from harness.report.history import by_age
from harness.report.keys import by_case
from harness.report.plain import dumps
from harness.report.results import UNFINISHED, Results, TestOutcome

HEAD = ("started", "finished", "complete", "exit_status", "command", "environment", "options", "not_fetched")


@dataclass(frozen=True)
class Merged:
    """The joined run, and a sentence for each conflict, sorted."""

    results: Results
    conflicts: tuple[str, ...]


def merge(runs: Sequence[Results]) -> Merged:
    """Join runs, merged ones among them.  Raises UsageError without any."""
    if not runs:
        raise UsageError("report merge: no runs to merge")
    ordered, conflicts = _apart(runs)
    return Merged(_join(ordered), tuple(sorted({*conflicts, *_conflicts(ordered)})))


def apart(runs: Iterable[Results]) -> list[Results]:
    """The plain runs that `runs` are or were made of, each once, oldest first."""
    return _apart(runs)[0]


def _apart(runs: Iterable[Results]) -> tuple[list[Results], list[str]]:
    parts: dict[str, Results] = {}
    conflicts: list[str] = []
    for part in by_age(part for run in runs for part in split(run)):
        parts[part.run], found = _same_run(parts.get(part.run, part), part)
        conflicts += found
    return by_age(parts.values()), conflicts


def split(run: Results) -> list[Results]:
    """The runs that a merged one was made of; a plain run is its own only part."""
    heads = run.environment.get("runs")
    if not isinstance(heads, Mapping):
        return [run]
    return [_part(run, name, head) for name, head in heads.items()]


def _part(run: Results, name: str, head: Mapping[str, Any]) -> Results:
    known = {key: head[key] for key in HEAD if key in head}
    for key in ("command", "not_fetched"):
        known[key] = tuple(known.get(key, ()))
    records = tuple(replace(r, run="") for r in run.records if r.run == name)
    tests = tuple(replace(t, run="") for t in run.tests if t.run == name)
    return Results(run=name, **{"started": run.started, **known}, records=records, tests=tests)


def _join(parts: Sequence[Results]) -> Results:
    if len(parts) == 1:
        return parts[0]
    names = [part.run for part in parts]
    heads = {part.run: {key: getattr(part, key) for key in HEAD} for part in parts}
    ends = [part.finished for part in parts if part.finished]
    states = [part.exit_status for part in parts if part.exit_status is not None]
    return Results(
        run=f"merged-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:12]}",
        started=min(part.started for part in parts),
        finished=max(ends, default=None),
        complete=all(part.complete for part in parts),
        exit_status=max(states, default=None),
        environment={"runs": heads},
        not_fetched=_nowhere_fetched(parts),
        records=tuple(replace(r, run=part.run) for part in parts for r in part.records),
        tests=tuple(replace(t, run=part.run) for part in parts for t in part.tests),
    )


def _nowhere_fetched(parts: Sequence[Results]) -> tuple[str, ...]:
    checked = {record.model for part in parts for record in part.records}
    return tuple(sorted({name for part in parts for name in part.not_fetched} - checked))


def _same_run(one: Results, other: Results) -> tuple[Results, list[str]]:
    """Two views of one run as one: the more complete head, every distinct record, each test once."""
    if one == other:
        return one, []
    head = max(one, other, key=_completeness)
    records = sorted(_distinct([*one.records, *other.records]), key=_text)
    tests: dict[str, TestOutcome] = {}
    for test in sorted((*one.tests, *other.tests), key=_finality):
        tests[test.nodeid] = test
    joined = replace(head, records=tuple(records), tests=tuple(tests[key] for key in sorted(tests)))
    return joined, [*_clashes(one, other)]


def _clashes(one: Results, other: Results) -> Iterable[str]:
    """Cases that both views hold, but not alike."""
    first, second = by_case(one.records), by_case(other.records)
    for key in first.keys() & second.keys():
        if set(map(_text, first[key])) != set(map(_text, second[key])):
            yield f"{key}: records differ between two copies of run {one.run}"


def _completeness(run: Results) -> tuple[bool, str]:
    return run.complete, dumps({key: getattr(run, key) for key in HEAD})


def _finality(test: TestOutcome) -> tuple[bool, str]:
    return test.message != UNFINISHED, dumps(test.__dict__)


def _text(record: Record) -> str:
    return dumps(record.to_json())


def _distinct(records: Iterable[Record]) -> list[Record]:
    return list({_text(record): record for record in records}.values())


def _conflicts(parts: Sequence[Results]) -> list[str]:
    places = {part.run: dumps(dict(part.environment)) for part in parts}
    named = [replace(r, run=part.run) for part in parts for r in part.records if r.kind != "latency"]
    found = []
    for key, group in by_case(named).items():
        for place in sorted({places[record.run] for record in group}):
            here = [record for record in group if places[record.run] == place]
            if len({record.verdict for record in here}) > 1 and len({record.run for record in here}) > 1:
                said = ", ".join(f"{record.run}: {record.verdict}" for record in here)
                found.append(f"{key}: verdicts differ on the same machine ({said})")
    return found
