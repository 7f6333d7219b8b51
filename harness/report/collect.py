"""What a run's tests reported, collected as it comes and written at its end.

Each finished test is appended to a journal at once, so that a killed run keeps what it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from harness.records import Kind, Record, Verdict
from harness.report.plain import dumps
from harness.report.results import JOURNAL, Results, TestOutcome


@dataclass(frozen=True)
class Phase:
    """One phase of one test as reported: `outcome` is a TestOutcome's, `records` are JSON.

    `checked`: where it failed, a check did, not the code around it; `refused`: the target refused the model.
    """

    outcome: str
    duration_s: float = 0.0
    message: str = ""
    records: Sequence[Mapping[str, Any]] = ()
    checked: bool = False
    refused: bool = False


@dataclass
class Collector:
    """Collects phases by test; `head` describes the run, `folder` is where it is written.

    `ids` gives the ids of all cases, `reproduce` the command that runs a test again.  Nothing is written
    before a test of a case begins: a run of other tests alone leaves no folder.
    """

    folder: Path
    head: Results
    ids: Callable[[], Iterable[str]] = tuple
    reproduce: Callable[[str], str] = str
    records: list[Record] = field(default_factory=list)
    tests: list[TestOutcome] = field(default_factory=list)
    begun: bool = False
    """Whether any test of a case has begun."""
    _open: dict[str, list[Phase]] = field(default_factory=dict)
    _waiting: list[Mapping[str, Any]] = field(default_factory=list)

    def begin(self, nodeid: str) -> None:
        """A test has begun."""
        if not self._waiting and not self.begun:
            self._append(self.head.to_json())
        self.begun = self.begun or case_in(nodeid, self.ids()) is not None
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
        test, case = outcome(nodeid, phases), case_in(nodeid, self.ids())
        told = [record_from(raw) for phase in phases for raw in phase.records]
        asked = str(self.head.environment.get("backend", ""))
        backend = next((r.backend for r in (*told, *reversed(self.records))), asked)
        verdict = untold(worst_of(phases), told)
        if case and verdict and (verdict != "pass" or not self._judged(case)):
            told.append(_record(verdict, test, case, backend, self.reproduce(nodeid)))
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
            records=tuple(self._named(record) for record in self.records),
            tests=tuple(self.tests),
        )

    def _judged(self, case: tuple[str, str]) -> bool:
        """Whether a record says more of `case` than that a test was skipped."""
        found = (r.verdict for r in reversed(self.records) if (r.model, r.precision) == case)
        return any(verdict != "skipped" for verdict in found)

    def _named(self, record: Record) -> Record:
        """A record of a test that broke before `auto` had chosen a backend names the one that it chose."""
        chosen = next((one.backend for one in self.records if one.backend != "auto"), "auto")
        return replace(record, backend=chosen) if record.backend == "auto" else record

    def _append(self, line: Mapping[str, Any]) -> None:
        """Keep a line; a full disk costs the journal, not the run, whose end tells of it."""
        self._waiting.append(line)
        if not self.begun:
            return
        lines, self._waiting = self._waiting, []
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / JOURNAL).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(dumps(line) + "\n" for line in lines))


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_from(raw: Mapping[str, Any]) -> Record:
    """A record from its JSON."""
    lists = {key: tuple(raw.get(key, ())) for key in ("warnings", "caveats")}
    return Record(**{**raw, **lists})


def outcome(nodeid: str, phases: Sequence[Phase]) -> TestOutcome:
    """The outcome of a test from those of its phases: the worst of them, and what it said."""
    worst = worst_of(phases)
    return TestOutcome(nodeid, worst.outcome, sum(phase.duration_s for phase in phases), worst.message)


def worst_of(phases: Sequence[Phase]) -> Phase:
    """The phase that decides the outcome of its test."""
    order = ("passed", "skipped", "xfailed", "xpassed", "failed", "error")
    return max(phases, key=lambda phase: order.index(phase.outcome))


def untold(worst: Phase, told: Sequence[Record]) -> Verdict | None:
    """The verdict of a test, by its worst phase, that the records which it told do not give."""
    if worst.outcome in ("failed", "error", "xfailed") and not any(r.fails for r in told):
        return "not-deployable" if worst.refused else "fail" if worst.checked else "error"
    silent: Mapping[str, Verdict] = {"skipped": "skipped", "passed": "pass"}
    return None if told else silent.get(worst.outcome)


def _record(
    verdict: Verdict, test: TestOutcome, case: tuple[str, str], backend: str, reproduce: str
) -> Record:
    """What is known of a test that did not tell it itself; `case` is model and precision."""
    return Record(
        kind_of(test.nodeid),
        *case,
        backend,
        verdict,
        message=test.message,
        nodeid=test.nodeid,
        reproduce=reproduce,
        duration_s=test.duration_s,
    )


def kind_of(nodeid: str) -> Kind:
    """What the records of a test are: `suites/test_outputs.py::...` makes `outputs`; `engine` if in doubt.

    Of a file outside pytest's root folder that was named by itself there is the function's name alone.
    """
    file, _, rest = nodeid.partition("::")
    return _kind_of_name(file or rest.partition("[")[0])


@lru_cache(maxsize=256)
def _kind_of_name(path: str) -> Kind:
    stem = path.rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    return next((kind for kind in get_args(Kind) if kind == stem), "engine")


def rank(nodeid: str) -> int:
    """The place of a test in its case: engines, outputs, what relies on them; tests of no case come last."""
    kinds = get_args(Kind)
    return kinds.index(kind_of(nodeid)) if "[" in nodeid else len(kinds)


def case_in(nodeid: str, ids: Iterable[str]) -> tuple[str, str] | None:
    """Model and precision of a test whose parameters are, or begin with, one of `ids`; None for others."""
    parameters = nodeid.partition("[")[2].removesuffix("]")
    found = max((one for one in ids if belongs(parameters, one)), key=len, default=None)
    model, _, precision = (found or "").rpartition("-")
    return (model, precision) if found else None


def belongs(parameters: str, case_id: str) -> bool:
    """Whether the parameters of a test are those of a case, with or without more after them."""
    return parameters == case_id or parameters.startswith((f"{case_id}-", f"{case_id}:"))
