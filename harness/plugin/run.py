"""One run as the plugin sees it: options, cases, the collector of records.  Knows no pytest."""

from __future__ import annotations

import secrets
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from harness import __version__
from harness.backends import packages
from harness.errors import UsageError
from harness.options import Options
from harness.plugin import selection, xfails
from harness.plugin.selection import Selection
from harness.plugin.xfails import Xfail
from harness.records import Record
from harness.report import changes, proposals
from harness.report.baseline import diff
from harness.report.collect import Collector, case_in, now
from harness.report.environment import RUNTIMES, environment, versions
from harness.report.gate import Gate
from harness.report.keys import CaseKey, by_case, case_key
from harness.report.overview import overview
from harness.report.regression import missing
from harness.report.regression.difference import MISSING, Difference
from harness.report.results import Results
from harness.report.sanity import doubtful, not_kept, review
from harness.report.terminal import table
from harness.report.write import write_run


@dataclass
class Run:
    """Owns what lives as long as a run.

    `bundled` are the folders of specs that are validated unless options name others; `xfail_file` lists
    expected failures; `concerned` says whether the run touches the suites at all, `narrowed` whether it was
    asked for a part of them; `losses` is what the baseline has and the run has not.
    """

    options: Options
    bundled: tuple[Path, ...]
    xfail_file: Path
    concerned: bool
    command: tuple[str, ...] = ()
    again: str = ""
    collector: Collector | None = None
    stale: list[Xfail] = field(default_factory=list)
    usage_error: bool = False
    own_reports: bool = False
    """Whether the run makes the folder of reports: then it leaves none where it has nothing to report."""
    trouble: str = ""
    differences: list[Difference] = field(default_factory=list)
    baseline_trouble: str = ""
    narrowed: bool = False
    losses: list[str] = field(default_factory=list)

    @cached_property
    def selection(self) -> Selection:
        """The cases of the run.  Raises UsageError."""
        return selection.load(self.options, self.bundled)

    @cached_property
    def xfails(self) -> tuple[Xfail, ...]:
        """The expected failures.  Raises UsageError."""
        return xfails.read(self.xfail_file)

    @property
    def gate(self) -> Gate:
        """The bounds of latencies."""
        return Gate(strict=self.options.gate == "strict")

    @cached_property
    def baseline(self) -> list[Record]:
        """The records of `--trt-baseline`; none without it.

        One that cannot be read is told, at the start and in every page, and the run goes on without it: a
        night's measurements are worth more than the comparison.  The exit status is that of a user's mistake.
        """
        from harness.report.history import records_of, runs_in
        from harness.report.merge import apart

        try:
            return records_of(apart(runs_in(self.options.baseline))) if self.options.baseline else []
        except UsageError as error:
            self.baseline_trouble, self.usage_error = f"no comparison with a baseline: {error}", True
            return []

    def baseline_of(self, records: Iterable[Record]) -> list[Record]:
        """The baseline's records of the cases of `records`, each case in the order of runs."""
        keys = dict.fromkeys(case_key(record) for record in records)
        return [record for key in keys for record in self._baseline_cases.get(key, ())]

    @cached_property
    def _baseline_cases(self) -> dict[CaseKey, list[Record]]:
        return by_case(self.baseline)

    def reproduce(self, nodeid: str) -> str:
        """The command that runs one test again: `again` with the case and the check, or pytest's."""
        if self.again:
            return f"{self.again} {shlex.join(self._narrowed(nodeid))}"
        return shlex.join(["pytest", nodeid, *self.options.arguments()])

    def _narrowed(self, nodeid: str) -> list[str]:
        """The options of `trt-harness validate` that leave the case and the check of a test."""
        case = case_in(nodeid, self.selection.ids)
        check = nodeid.partition("::")[0].rpartition("/")[2].removeprefix("test_").removesuffix(".py")
        found = [f"--model={case[0]}", f"--precision={case[1]}"] if case else []
        return [*found, f"--check={check}"]

    def start_report(self, root: Path) -> Collector:
        """Choose the run's folder below the report folder, and begin to collect.  Raises UsageError."""
        reports = root / self.options.report_dir
        _require_writable(reports)
        self.own_reports = not reports.exists()
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        here, options = environment(self.options), self.options.to_json()
        head = Results(name, now(), command=("pytest", *self.command), environment=here, options=options)
        self.collector = Collector(reports / name, head, lambda: self.selection.ids, self.reproduce)
        return self.collector

    def finish_report(self, exit_status: int, complete: bool) -> Sequence[Path]:
        """Write the run's pages; none if no test had begun.

        `trouble` says what could not be written: the disk refuses, or a page's package is missing.
        """
        if self.collector is None or not self.collector.begun:
            return []
        found = self.collector.results(exit_status, complete)
        reviewed = self.collector.records = sorted(review(found.records), key=self._place)
        found = replace(found, not_fetched=self.selection.not_fetched, records=tuple(reviewed))
        self.differences = self._against(reviewed)
        try:
            return write_run(found, self.collector.folder, self.differences, self.baseline_trouble)
        except (OSError, ImportError) as error:
            self.trouble = f"the report could not be written: {error}"
            return []

    def _against(self, records: Sequence[Record]) -> list[Difference]:
        """What differs from the baseline, of as much of it as the run was asked for."""
        base = self.baseline
        if self.narrowed:
            asked = {(record.model, record.precision, record.kind) for record in records}
            base = [one for one in base if (one.model, one.precision, one.kind) in asked]
        found = (
            missing.explained(diff(base, records, self.gate), base, records, self.options.allow_missing)
            if base
            else []
        )
        self.losses = [changes.one_line(one) for one in missing.losses(found)]
        self.losses += missing.troubles(base, found) if self.baseline else []
        return found

    def _place(self, record: Record) -> int:
        """That of the record's case in the run, whichever worker came first; all others come last."""
        return self._places.get((record.model, record.precision), len(self._places))

    @cached_property
    def _places(self) -> dict[tuple[str, str], int]:
        cases = self.selection.cases
        return {(case.spec.name, str(case.precision)): place for place, case in enumerate(cases)}

    def closing_lines(self) -> list[str]:
        """The table of verdicts, expected failures that match no test, and where the pages are."""
        if self.collector is None or not self.collector.begun:
            return []
        rows = overview(self.collector.records)
        stale = [
            f"{self.xfail_file}:{entry.line}: stale, no such test: {entry.nodeid}" for entry in self.stale
        ]
        shown = changes.SEEN | MISSING
        changed = changes.lines(self.differences, shown) if self.differences else []
        proposed = proposals.lines(self.collector.records)
        told = [*filter(None, [self.baseline_trouble]), *self.losses[len(missing.losses(self.differences)) :]]
        records = self.collector.records
        notes = [*stale, *proposed, *not_kept(records), *doubtful(records), *changed, *told]
        report = self.trouble or f"report: {self.collector.folder}"
        return [*(table(rows) if rows else []), *notes, report]

    def header(self) -> list[str]:
        """What is under test and every setting that differs from its default."""
        found = self.selection
        models = [f"{name} ({', '.join(precisions)})" for name, precisions in found.models().items()]
        runtimes = [f"{name} {version}" for name, version in versions(RUNTIMES).items()]
        installed = ", ".join(runtimes) or "no runtime"
        lines = [
            f"TensorRT harness {__version__}: backend {self.options.backend}; installed: {installed}",
            f"settings: {', '.join(self.options.changed()) or 'all default'}; cache {self.options.cache_dir}",
            f"models: {'; '.join(models) or 'none'}",
        ]
        lines += [f"warning: {both}" for both in filter(None, [packages.clash()])]
        lines += [self.baseline_trouble] if not self.baseline and self.baseline_trouble else []
        missing = ", ".join(found.not_fetched)
        return [*lines, f"not fetched (make zoo): {missing}"] if missing else lines


def _require_writable(folder: Path) -> None:
    """Raise UsageError unless `folder` can be written into, or made, which only trying tells for sure."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        tempfile.TemporaryDirectory(dir=there, prefix=".").cleanup()
    except OSError as error:
        rule = f"{there} is no folder that can be written into: {error.strerror}"
        raise UsageError(f"--trt-report-dir = {str(folder)!r}: {rule}") from error
