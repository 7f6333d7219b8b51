"""What a run's tests reported, collected as it comes and written at its end.

Each finished test is appended to a journal at once, so that a killed run keeps what it had.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from harness.report.plain import dumps
from harness.report.records import Kind, Record
from harness.report.results import JOURNAL, Results, TestOutcome

BAD = frozenset({"precision-limited", "engine-suspect", "fail", "error"})
_FILE_KINDS: Mapping[str, Kind] = {"engines": "engine"}


@dataclass(frozen=True)
class Phase:
    """One phase of one test as reported: `outcome` is a TestOutcome's, `records` are JSON."""

    outcome: str
    duration_s: float = 0.0
    message: str = ""
    records: Sequence[Mapping[str, Any]] = ()


@dataclass
class Collector:
    """Collects phases by test; `head` describes the run, `folder` is where it is written."""

    folder: Path
    head: Results
    reproduce: Callable[[str], str] = str
    records: list[Record] = field(default_factory=list)
    tests: list[TestOutcome] = field(default_factory=list)
    _open: dict[str, list[Phase]] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether any test has begun."""
        return bool(self.tests or self._open)

    def begin(self, nodeid: str) -> None:
        """A test has begun."""
        if not self.begun:
            self._append(self.head.to_json())
        self._open.setdefault(nodeid, [])
        self._append({"started": nodeid})

    def add(self, nodeid: str, phase: Phase) -> None:
        """A phase of a test has ended."""
        self._open.setdefault(nodeid, []).append(phase)

    def end(self, nodeid: str) -> None:
        """A test has ended; calling it again does nothing."""
        if nodeid not in self._open:
            return
        phases = self._open.pop(nodeid)
        test = outcome(nodeid, phases)
        told = [record_from(raw) for phase in phases for raw in phase.records]
        told += untold(test, told, self.head.environment, self.reproduce(nodeid))
        for record in told:
            self._append({"record": record.to_json()})
        self._append({"test": test.__dict__})
        self.records += told
        self.tests.append(test)

    def results(self, exit_status: int, complete: bool) -> Results:
        """The whole run; tests still open are ended as they are."""
        for nodeid in list(self._open):
            self._open[nodeid] = self._open[nodeid] or [
                Phase("error", message="the run ended during this test")
            ]
            self.end(nodeid)
        return replace(
            self.head,
            finished=now(),
            complete=complete,
            exit_status=exit_status,
            records=tuple(self.records),
            tests=tuple(self.tests),
        )

    def _append(self, line: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / JOURNAL).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(dumps(line) + "\n")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_from(raw: Mapping[str, Any]) -> Record:
    """A record from its JSON."""
    return Record(**{**raw, "warnings": tuple(raw.get("warnings", ()))})


def outcome(nodeid: str, phases: Sequence[Phase]) -> TestOutcome:
    """The outcome of a test from those of its phases: the worst of them, and what it said."""
    order = ("passed", "skipped", "xfailed", "xpassed", "failed", "error")
    worst = max(phases, key=lambda phase: order.index(phase.outcome))
    return TestOutcome(nodeid, worst.outcome, sum(phase.duration_s for phase in phases), worst.message)


def untold(
    test: TestOutcome, told: Iterable[Record], environment: Mapping[str, Any], reproduce: str
) -> list[Record]:
    """A record for a test that failed or was skipped without leaving one that says so."""
    case = parse_nodeid(test.nodeid)
    told = list(told)
    failed = test.outcome in ("failed", "error", "xfailed") and not any(r.verdict in BAD for r in told)
    if case is None or not (failed or (test.outcome == "skipped" and not told)):
        return []
    kind, model, precision = case
    backend = str(environment.get("backend", ""))
    verdict = "error" if failed else "skipped"
    return [
        Record(
            kind, model, precision, backend, verdict,  # type: ignore[arg-type]
            message=test.message, nodeid=test.nodeid, reproduce=reproduce, duration_s=test.duration_s,
        )
    ]  # fmt: skip


def rank(nodeid: str) -> int:
    """The place of a test in its case: engines before outputs, outputs before what relies on them."""
    kinds, case = get_args(Kind), parse_nodeid(nodeid)
    return kinds.index(case[0]) if case else len(kinds)


def parse_nodeid(nodeid: str) -> tuple[Kind, str, str] | None:
    """Kind, model and precision of `suites/test_outputs.py::test_outputs[mnist_cnn-fp16]`; else None.

    What follows a colon, `[mnist_cnn-fp16:default-b8]`, says where in the case.
    """
    pattern = r"(?:.*/)?test_([^/:]+)\.py::[^\[]*\[([^:]+)-([^-:\]]+)(?::.*)?\]"
    found = re.fullmatch(pattern, nodeid, re.DOTALL)
    if not found:
        return None
    stem = found[1]
    kind = next((k for k in get_args(Kind) if k == stem), _FILE_KINDS.get(stem, "engine"))
    return kind, found[2], found[3]
