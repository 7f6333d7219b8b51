"""results.json: everything that a run found, written and read here; reports/README.md describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.errors import UsageError
from harness.records import Record
from harness.report.plain import dumps, write_text

# History of the schema; a reader takes every version up to its own.
# 1: run, times, command, environment, options, records, tests.
# 2: verdicts undecided, reference-limited, not-deployable, export-suspect; `caveats`, `allowed` of a record.
SCHEMA = 2
RESULTS = "results.json"
JOURNAL = "records.jsonl"
UNFINISHED = "the run ended during this test"


@dataclass(frozen=True)
class TestOutcome:
    """How one test ended: `passed`, `failed`, `error`, `skipped`, `xfailed` or `xpassed`.

    `run` is set in merged results.
    """

    __test__ = False

    nodeid: str
    outcome: str
    duration_s: float = 0.0
    message: str = ""
    run: str = ""


@dataclass(frozen=True)
class Results:
    """One run.  Times are ISO 8601 in UTC; `complete` is False for one that was interrupted or killed."""

    run: str
    started: str
    finished: str | None = None
    complete: bool = False
    exit_status: int | None = None
    command: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    not_fetched: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    tests: tuple[TestOutcome, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The run as JSON-ready data, with the schema's version."""
        return {"schema": SCHEMA, **asdict(self)}


def write(results: Results, folder: Path) -> Path:
    """Write results.json into `folder`, atomically."""
    return write_text(folder / RESULTS, dumps(results.to_json(), indent=1) + "\n")


def read(path: Path) -> Results:
    """The run in a results.json, or in a run's folder; of a killed run, what its journal kept.

    Raises UsageError, one line, for what is missing, truncated, foreign or newer than this reader.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file() and (file.parent / JOURNAL).is_file():
        return recover(file.parent / JOURNAL)
    return _validated(file, _versioned(file, _json(file, _text(file))))


def recover(journal: Path) -> Results:
    """The run in the journal of a killed run; a last line that was cut off is left out."""
    lines = [_json(journal, line) for line in _text(journal).split("\n")[:-1] if line]
    if not lines:
        raise UsageError(f"{journal}: empty; no test had begun")
    if not all(isinstance(line, dict) for line in lines):
        raise UsageError(f"{journal}: not the journal of a run: its lines must be JSON objects")
    records = [line["record"] for line in lines if "record" in line]
    tests = [line["test"] for line in lines if "test" in line]
    body = {**_versioned(journal, lines[0]), "records": records, "tests": tests}
    found = _validated(journal, body)
    return replace(found, tests=found.tests + _unfinished(lines, found))


def _unfinished(lines: list[dict[str, Any]], found: Results) -> tuple[TestOutcome, ...]:
    done = {test.nodeid for test in found.tests}
    begun = [line["started"] for line in lines[1:] if isinstance(line.get("started"), str)]
    return tuple(TestOutcome(n, "error", message=UNFINISHED) for n in dict.fromkeys(begun) if n not in done)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{file}: cannot be read: {reason}") from error


def _json(file: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: truncated or not JSON: {error}") from error


def _versioned(file: Path, data: Any) -> dict[str, Any]:
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int):
        raise UsageError(f"{file}: not the results of a run: no `schema` number")
    if not 1 <= schema <= SCHEMA:
        raise UsageError(f"{file}: schema = {schema}: this version reads 1 to {SCHEMA}")
    return {str(key): value for key, value in data.items() if key != "schema"}


def _validated(file: Path, data: Any) -> Results:
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file}: {key}: {first['msg']}") from error


_ADAPTER: TypeAdapter[Results] = TypeAdapter(Results)
