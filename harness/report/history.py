"""Runs on disk: one file, one folder, or a folder of runs, oldest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.errors import UsageError
from harness.paths import nothing_at
from harness.records import Record
from harness.report.results import JOURNAL, RESULTS, Results, read

ANCHOR = "anchor"
"""The folder, in a folder of runs, of the one that `trt-harness baseline pin` keeps."""


def runs_in(path: Path) -> list[Results]:
    """The runs at `path`, oldest first: a results.json, a run's folder, or a folder of such folders.

    Raises UsageError, one line, where there is none or one of them cannot be read.
    """
    if why := nothing_at(path):
        raise UsageError(f"{path}: {why}: no results to read")
    if path.is_file() or _is_run(path):
        return [read(path)]
    found = [_read(folder) for folder in sorted(path.iterdir()) if folder.is_dir() and _is_run(folder)]
    if not found:
        raise UsageError(f"{path}: holds no {RESULTS}, nor folders that do")
    return by_age(found)


def _read(folder: Path) -> Results:
    """The run in `folder`; records of an anchor say that they are of one."""
    found = read(folder)
    if folder.name != ANCHOR:
        return found
    marked = (replace(record, data={**record.data, "anchor": True}) for record in found.records)
    return replace(found, records=tuple(marked))


def is_anchor(record: Record) -> bool:
    """Whether the record is of a run that was pinned."""
    return record.data.get("anchor") is True


def latest_in(reports: Path, count: int) -> list[Results]:
    """The last `count` runs below a report folder, oldest first; none that cannot be read."""
    folders = sorted(path for path in reports.glob("*") if _is_run(path))
    found: list[Results] = []
    for folder in folders[-count:]:
        with suppress(UsageError):
            found.append(read(folder))
    return found


def runs_of(paths: Iterable[Path]) -> list[Results]:
    """The runs at all `paths`, each run once, oldest first.  Raises UsageError."""
    found = {run.run: run for path in paths for run in runs_in(path)}
    return by_age(found.values())


def records_of(runs: Iterable[Results]) -> list[Record]:
    """All records of `runs`, in the order of runs."""
    return [record for run in runs for record in run.records]


def before(base: Sequence[Results], new: Sequence[Results]) -> list[Results]:
    """The runs of `base` without those of `new`, which are no baseline of themselves; all if none is left."""
    names = {run.run for run in new}
    return [run for run in base if run.run not in names] or list(base)


def by_age(runs: Iterable[Results]) -> list[Results]:
    """Oldest first; runs of the same second by name, so that the order never depends on folders."""
    return sorted(runs, key=lambda run: (run.started, run.run))


def _is_run(folder: Path) -> bool:
    return (folder / RESULTS).is_file() or (folder / JOURNAL).is_file()
