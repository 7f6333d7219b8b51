"""xfails.txt: failures that are expected, each with its reason, one `nodeid  # reason` a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.paths import no_file
from harness.report.collect import belongs


@dataclass(frozen=True)
class Xfail:
    """One expected failure: the test's id, relative to the root of the tests, and why."""

    nodeid: str
    reason: str
    line: int

    @property
    def file(self) -> str:
        """The test file of the id."""
        return self.nodeid.partition("::")[0]

    @property
    def function(self) -> str:
        """The id without its parameters."""
        return self.nodeid.partition("[")[0]

    @property
    def parameters(self) -> str:
        """What stands between the brackets."""
        return self.nodeid.partition("[")[2].removesuffix("]")


def read(path: Path) -> tuple[Xfail, ...]:
    """The entries of a file; none if there is no such file.  Raises UsageError naming file and line."""
    if not path.is_file():
        return ()
    try:
        return parse(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def require(named: str, root: Path) -> None:
    """Raise UsageError where the setting `trt_xfails` names, from `root` on, what is no file."""
    if named and (why := no_file(root / named)):
        raise UsageError(f"trt_xfails = {named!r}: {why} (paths start from {root})")


def parse(text: str, file: object) -> tuple[Xfail, ...]:
    """The entries in `text`; empty lines and lines that start with `#` are comments."""
    rows = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    found = tuple(_entry(file, number, line) for number, line in rows if line and not line.startswith("#"))
    for first, second in zip(sorted(found, key=_place), sorted(found, key=_place)[1:], strict=False):
        if first.nodeid == second.nodeid:
            raise UsageError(f"{file}:{second.line}: {second.nodeid}: already on line {first.line}")
    return found


def stale(
    entries: Iterable[Xfail], collected: Iterable[str], known: frozenset[str], *, whole_files: bool
) -> list[Xfail]:
    """Entries of collected test files that match no test.

    `known` are the cases that exist without narrowing; `whole_files` says that the run asked for
    files, not for single tests, so that a function not collected does not exist.
    """
    functions = {nodeid.partition("[")[0] for nodeid in collected}
    files = {function.partition("::")[0] for function in functions}
    return [
        entry
        for entry in entries
        if (entry.function in functions and not any(belongs(entry.parameters, case) for case in known))
        or (whole_files and entry.file in files and entry.function not in functions)
    ]


def _entry(file: object, number: int, line: str) -> Xfail:
    nodeid, mark, reason = line.partition(" #")
    if not mark or not reason.strip() or "::" not in nodeid:
        raise UsageError(f"{file}:{number}: {line!r}: must read `nodeid  # reason`")
    return Xfail(nodeid.strip(), reason.strip(), number)


def _place(entry: Xfail) -> tuple[str, int]:
    return entry.nodeid, entry.line
