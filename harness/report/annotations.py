"""GitHub workflow commands: failures and regressions as annotations of a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from harness.records import Record
from harness.report.changes import one_line, regressions
from harness.report.regression.difference import Difference
from harness.report.regression.missing import losses

LIMIT = 4000


def of_differences(found: Iterable[Difference]) -> list[str]:
    """An error for each regression and for each case that is missing."""
    return [
        command("error", f"Regression: {d.key.model} {d.key.precision} {d.figure}", one_line(d))
        for d in regressions(found)
    ] + [command("error", f"Missing: {d.key.model} {d.key.precision}", one_line(d)) for d in losses(found)]


def of_troubles(troubles: Iterable[str]) -> list[str]:
    """An error for each sentence that says why a comparison, or a run, tells less than it seems to."""
    return [command("error", "Incomplete", text) for text in troubles]


def of_records(records: Iterable[Record]) -> list[str]:
    """An error for each record that failed, a warning for each that passed with warnings."""
    found = []
    for record in records:
        title = f"{record.model} {record.precision} {record.kind}: {record.verdict}"
        if record.fails:
            found.append(command("error", title, f"{record.message}\n{record.reproduce}".strip()))
        elif told := [*(f"but {text}" for text in record.caveats), *record.warnings]:
            found.append(command("warning", title, "\n".join(told)))
    return found


def command(level: str, title: str, message: str) -> str:
    """One workflow command on one line, escaped as GitHub's runner reads it."""
    return f"::{level} title={_property(title[:200])}::{_data(message[:LIMIT])}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
