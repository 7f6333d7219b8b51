"""The one list of verdicts: order of blame, what fails a run, what may be let through, and who lists it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from harness.errors import UsageError
from harness.options import Options
from harness.records import ALLOWABLE, VERDICTS, Record, Verdict, fails, severity, worst
from harness.report.baseline import diff
from harness.report.overview import overview
from harness.report.pages.html import GLYPHS
from harness.report.plain import dumps
from harness.report.results import Results, read
from harness.report.summary import lines
from harness.report.terminal import table

ROOT = Path(__file__).resolve().parents[1]
BLAME = ("export-suspect", "not-deployable", "reference-limited", "engine-suspect", "precision-limited")


def record(verdict: str, **fields: object) -> Record:
    return Record("outputs", "net", "fp16", "onnxruntime", verdict, **fields)  # type: ignore[arg-type]


def test_every_verdict_is_listed_once_with_its_meaning() -> None:
    assert tuple(VERDICTS) == get_args(Verdict)
    assert GLYPHS.keys() == VERDICTS.keys()


def test_blame_falls_where_a_fault_comes_in_first() -> None:
    for index, verdict in enumerate(BLAME):
        assert worst(reversed([*BLAME[index:], "pass", "skipped", "unverified"])) == verdict


def test_every_verdict_but_three_fails_the_run() -> None:
    assert [verdict for verdict in VERDICTS if not fails(verdict)] == ["skipped", "pass", "unverified"]
    assert fails("of a later version")


def test_the_schema_lists_verdicts_as_the_code_does() -> None:
    text = (ROOT / "reports" / "README.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|( yes)? \|$", text, re.MULTILINE)
    said = {name: (words, bool(allowed)) for name, words, allowed in rows}
    assert said == {name: (meaning.says, meaning.allowable) for name, meaning in VERDICTS.items()}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_what_is_let_through_fails_nothing_and_stands_in_the_table(verdict: str) -> None:
    plain = record(verdict, message="it failed")
    through = replace(plain, allowed=True)
    assert plain.fails == fails(verdict)
    assert not through.fails
    assert "but" in table(overview([through]))[0]
    assert f"{verdict} is allowed" in table(overview([through]))[1]
    page = "\n".join(lines(Results("r", "s", records=(through,))))
    assert ("What failed" in page, f"{verdict} is allowed" in page) == (False, True)
    changed = {one.status for one in diff([record("pass")], [through]) if one.figure == "verdict"}
    assert "regression" not in changed


def test_only_judgements_may_be_let_through() -> None:
    assert set(BLAME) < set(ALLOWABLE)
    assert Options.parse({"trt_allow": ["not-deployable"]}).arguments() == ["--trt-allow=not-deployable"]
    for verdict in set(VERDICTS) - set(ALLOWABLE):
        with pytest.raises(UsageError, match="--trt-allow"):
            Options.parse({"trt_allow": [verdict]})


def test_results_of_schema_1_are_read(tmp_path: Path) -> None:
    old = json.loads(dumps(Results("r", "s", records=(record("precision-limited"),)).to_json()))
    old["schema"] = 1
    for one in old["records"]:
        del one["caveats"], one["allowed"]
    (tmp_path / "results.json").write_text(json.dumps(old))
    found = read(tmp_path).records
    assert found == (record("precision-limited"),)
    assert severity(found[0].verdict) > severity("pass")
