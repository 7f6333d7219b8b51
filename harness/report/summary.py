"""summary.md: a run on one page, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import printable
from harness.records import Record
from harness.report import proposals
from harness.report.changes import counts, one_line, regressions
from harness.report.overview import overview
from harness.report.plain import write_text
from harness.report.regression.difference import Difference
from harness.report.regression.missing import cut_short, losses
from harness.report.results import Results
from harness.report.terminal import HEAD, cells

SUMMARY = "summary.md"
LONGEST = 500
_MARKUP = "\\`*_[]|#<>&~"
"""Characters that Markdown or HTML would read."""

PAGES = ("", "Everything else is in [report.html](report.html) and [results.json](results.json).")


def write(results: Results, folder: Path, differences: Sequence[Difference] = (), trouble: str = "") -> Path:
    """Write summary.md into `folder`, atomically."""
    return write_text(folder / SUMMARY, "\n".join(lines(results, differences, trouble)) + "\n")


def lines(results: Results, differences: Sequence[Difference] = (), trouble: str = "") -> list[str]:
    """The page: what ran where, the table of verdicts, what regressed, each failure with its command."""
    rows = [cells(row) for row in overview(results.records)]
    bad = [record for record in results.records if record.fails]
    changed = _changed(differences, trouble) if differences or trouble else []
    proposed = _proposals(results.records)
    table = ["", *_table(rows)]
    return [*_head(results), *table, *changed, *proposed, *_failures(bad), *_missing(results), *PAGES]


def _proposals(records: Iterable[Record]) -> list[str]:
    """What searches propose to write into specs."""
    every = list(records)
    said = [f"- {escape(line)}" for line in proposals.lines(every)]
    blocks = [
        line
        for r in proposals.proposing(every)
        for line in ("", f"{escape(r.model)}:", "", fenced(proposals.toml(r)))
    ]
    return ["", "## FP32 nodes", "", *said, *blocks] if said else []


def _changed(differences: Sequence[Difference], trouble: str) -> list[str]:
    """What the baseline says, a count, then each regression and loss on a line; or why it says nothing."""
    listed = [
        f"- {escape(one_line(difference))}"
        for difference in [*regressions(differences), *losses(differences)]
    ]
    said = escape(trouble) or f"{counts(differences).partition(': ')[2]}."
    return ["", "## Against the baseline", "", said, *([""] if listed else []), *listed]


def _head(results: Results) -> list[str]:
    counts: dict[str, int] = {}
    for test in results.tests:
        counts[test.outcome] = counts.get(test.outcome, 0) + 1
    said = ", ".join(f"{number} {word.strip() or '?'}" for word, number in counts.items()) or "no test ran"
    state = f" **{escape(why)}.**" if (why := cut_short(results)) else ""
    where = ", ".join(f"{k} {v}" for k, v in results.environment.items() if v and isinstance(v, str))
    title = f"# TensorRT harness: run {escape(results.run)}"
    return [title, "", f"{escape(said)}.{state}", "", escape(where)]


def _table(rows: Iterable[Iterable[str]]) -> list[str]:
    body = ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD), *body] if body else []


def _failures(bad: Iterable[Record]) -> list[str]:
    found = [line for record in bad for line in _failure(record)]
    return ["", "## What failed", *found] if found else []


def _failure(record: Record) -> list[str]:
    title = f"{record.model} {record.precision} {record.kind}: {record.verdict}"
    command = ["", fenced(record.reproduce)] if record.reproduce else []
    return ["", f"### {escape(title)}", "", fenced(record.message), *command]


def _missing(results: Results) -> list[str]:
    names = ", ".join(results.not_fetched)
    return ["", f"Not fetched, so not run (`make zoo`): {escape(names)}."] if names else []


def fenced(text: str) -> str:
    """`text` as a block of code, whatever fences are in it."""
    text = printable(text)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"


def escape(text: str) -> str:
    """`text` on one line with the characters that Markdown or HTML would read made harmless."""
    line = printable(" ".join(text.split()))
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
    marked = "".join(f"\\{c}" if c in _MARKUP else c for c in line).replace("://", ":\\//")
    # A line that starts so would be an item of a list, or make a heading of the one above it.
    return f"\\{marked}" if marked[:1] in ("-", "+", "=") else re.sub(r"^(\d+)([.)])", r"\1\\\2", marked)
