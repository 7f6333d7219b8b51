"""What the report of a test says: errors of no code in one line, and what concerns a whole case once."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from harness import errors
from harness.plugin.run import Run
from harness.report.collect import Phase, record_from

NOT_HERE = (errors.UsageError, errors.BackendUnavailableError)
CHECKS = (AssertionError, pytest.fail.Exception)
ONE_LINE = (errors.UsageError, errors.BackendError, errors.CacheError)


@dataclass
class ToldOnce:
    """Keeps of each case what its fixtures failed with: an engine that cannot be built is one error.

    Tests of the case that meet the same error after that are skipped, and say which test tells it.
    """

    told: dict[tuple[str, str], str] = field(default_factory=dict)

    def shorten(self, report: pytest.TestReport, case: str) -> None:
        """Make `report` of a test of `case`, failed in its setup, a skip if its message was told before."""
        if report.when != "setup":
            return
        first = self.told.setdefault((case, report.longreprtext), report.nodeid)
        if first != report.nodeid:
            place, line, _ = report.location
            report.outcome = "skipped"
            report.longrepr = (place, (line or 0) + 1, f"Skipped: not run, for the error of {first}")


def one_line(report: pytest.TestReport, error: BaseException) -> None:
    """Say `error`, which is no fault of the code, without its traceback."""
    report.longrepr = errors.for_terminal(chained(error))
    report.__dict__["trt_usage"] = isinstance(error, NOT_HERE)


def checked(call: pytest.CallInfo[None]) -> bool:
    """Whether what a test raised is a check that failed, not an error of its code."""
    return call.when == "call" and call.excinfo is not None and isinstance(call.excinfo.value, CHECKS)


def phase(report: pytest.TestReport) -> Phase:
    """What one report says, without pytest's types."""
    records, checked = getattr(report, "trt_records", ()), getattr(report, "trt_checked", False)
    refused = getattr(report, "trt_refused", False)
    return Phase(_outcome(report), report.duration, _message(report), records, checked, refused)


def fail_regressed(report: pytest.TestReport, run: Run) -> None:
    """A test whose records regressed against `--trt-baseline` has failed."""
    raw = getattr(report, "trt_records", ())
    if run.options.baseline is None or not raw:
        return
    from harness.plugin import regression

    records = [record_from(one) for one in raw]
    found = regression.regressed(records, run.baseline_of(records), run.gate)
    if found:
        report.outcome, report.longrepr = "failed", regression.explain(found)
        report.__dict__["trt_checked"] = True


def chained(error: BaseException) -> str:
    """`BuildError: ...` and its causes, a line each; where a child process died, its stack."""
    lines: list[str] = []
    stack: list[str] = []
    link: BaseException | None = error
    while link is not None:
        if not lines or str(link) not in lines[-1]:
            lines.append(f"{type(link).__name__}: {link}")
        if isinstance(link, errors.DiedError):
            stack += [f"    {line}" for line in link.stack.splitlines()]
        link = link.__cause__
    return "\n".join(["\n  because of ".join(lines), *stack])


def refused(call: pytest.CallInfo[None]) -> bool:
    """Whether the target refused the model."""
    link = call.excinfo.value if call.excinfo else None
    while link is not None and not isinstance(link, errors.NotDeployableError):
        link = link.__cause__
    return link is not None


def lost(call: pytest.CallInfo[None]) -> bool:
    """Whether the GPU was lost to this process."""
    link = call.excinfo.value if call.excinfo else None
    while link is not None and not isinstance(link, errors.DeviceLostError):
        link = link.__cause__
    return link is not None


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.failed:
        return "failed" if report.when == "call" else "error"
    return report.outcome


def _message(report: pytest.TestReport) -> str:
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    if isinstance(report.longrepr, str):
        return report.longrepr  # longreprtext puts the worker's interpreter before it.
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash else report.longreprtext
