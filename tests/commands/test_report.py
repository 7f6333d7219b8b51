"""`trt-harness diff` and `report` as users call them."""

from __future__ import annotations

import json

import pytest

from harness.cli import main
from harness.report.annotations import command
from harness.report.merge import merge
from harness.report.results import read, write
from tests.helpers.results import latency_record, outputs_record, run


@pytest.fixture
def runs(tmp_path):
    """Two runs, the second slower, and a third that does not pass."""
    found = {
        "base": run(latency_record(seed=1), outputs_record(), name="base"),
        "slow": run(latency_record(seed=2, p50_s=1.3e-3), outputs_record(), name="slow"),
        "wrong": run(outputs_record(verdict="engine-suspect", message="it is\n50% off"), name="wrong"),
    }
    return {name: write(results, tmp_path / name).parent for name, results in found.items()}


def call(*arguments):
    return main([str(argument) for argument in arguments])


def test_diff_of_a_run_with_itself_is_good(runs, capsys):
    assert call("diff", runs["base"], runs["base"]) == 0
    assert capsys.readouterr().out == "against the baseline: 4 same\n"


def test_diff_names_a_regression_and_fails(runs, capsys, tmp_path):
    assert (
        call(
            "diff",
            runs["base"],
            runs["slow"],
            "--gate=strict",
            "--json",
            tmp_path / "d.json",
            "--all",
            "--github",
        )
        == 1
    )
    out = capsys.readouterr().out
    assert out.startswith("against the baseline: 1 regression, 3 same\nregression: mnist[fp16] latency")
    assert "same: mnist[fp16] outputs" in out
    assert "::error title=Regression%3A mnist fp16 p50_s::mnist[fp16] latency" in out
    figures = [item["figure"] for item in json.loads((tmp_path / "d.json").read_text())]
    assert sorted(figures) == ["mre", "p50_s", "verdict", "verdict"]


def test_a_run_that_lies_in_a_folder_twice_counts_once(runs, tmp_path):
    nights = tmp_path / "nights"
    for name in ("a", "b"):
        write(read(runs["base"]), nights / name)
    assert call("report", "merge", runs["base"], runs["slow"], "-o", nights / "merged") == 0
    call("diff", nights, runs["base"], "--json", tmp_path / "twice.json")
    merged = merge([read(runs["base"]), read(runs["slow"])]).results
    call("diff", write(merged, tmp_path / "once"), runs["base"], "--json", tmp_path / "once.json")
    assert (tmp_path / "twice.json").read_text() == (tmp_path / "once.json").read_text()


def test_a_run_among_the_nights_is_no_baseline_of_itself(tmp_path):
    for night, mre in enumerate((2e-4, 2e-4, 9e-4)):
        write(run(outputs_record(mre=mre), name=f"n{night}"), tmp_path / "nights" / f"n{night}")
    assert call("diff", tmp_path / "nights", tmp_path / "nights" / "n2") == 1
    assert call("diff", tmp_path / "nights", tmp_path / "nights" / "n1") == 0
    newest = tmp_path / "nights" / "n2"
    assert (
        call("report", "html", newest, "--baseline", tmp_path / "nights", "-o", tmp_path / "page.html") == 0
    )
    assert "1 regression" in (tmp_path / "page.html").read_text()


def test_the_minimum_effect_is_a_setting(runs):
    assert call("diff", runs["base"], runs["slow"], "--min-effect", 0.5) == 0


@pytest.mark.parametrize("value", ["x", "-1", "1"])
def test_a_wrong_minimum_effect_is_one_line(runs, capsys, value):
    with pytest.raises(SystemExit) as caught:
        call("diff", runs["base"], runs["slow"], "--min-effect", value)
    assert caught.value.code == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_baseline_is_one_line(runs, capsys, tmp_path):
    assert call("diff", tmp_path / "none", runs["base"]) == 4
    line = f"trt-harness: error: {tmp_path / 'none'}: no such file or folder: no results to read\n"
    assert capsys.readouterr().err == line


def test_merge_writes_every_page_and_is_idempotent(runs, tmp_path):
    assert call("report", "merge", runs["base"], runs["slow"], "-o", tmp_path / "all") == 0
    assert {p.name for p in (tmp_path / "all").iterdir()} == {"results.json", "summary.md", "report.html"}
    assert call("report", "merge", tmp_path / "all", runs["slow"], "-o", tmp_path / "again") == 0
    assert read(tmp_path / "all") == read(tmp_path / "again")


def test_merge_names_conflicts_and_fails(runs, capsys, tmp_path):
    assert call("report", "merge", runs["base"], runs["wrong"], "-o", tmp_path / "all") == 1
    assert "conflict: mnist[fp16] outputs on onnxruntime" in capsys.readouterr().err
    assert len(read(tmp_path / "all").records) == 3


def test_html_is_written_beside_the_run(runs, capsys):
    assert call("report", "html", runs["slow"], "--baseline", runs["base"]) == 0
    page = runs["slow"] / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert "1 undecided, 3 same" in page.read_text()


def test_trend_is_written_where_asked(runs, tmp_path):
    assert call("report", "trend", runs["base"], runs["slow"], "-o", tmp_path / "trend.html") == 0
    assert "trend over 2 runs" in (tmp_path / "trend.html").read_text()


def test_annotations_name_what_failed(runs, capsys):
    assert call("report", "annotations", runs["wrong"]) == 0
    out = capsys.readouterr().out
    assert out == "::error title=mnist fp16 outputs%3A engine-suspect::it is%0A50%25 off\n"


def test_annotations_are_one_line_each_whatever_is_in_them():
    line = command("error", "a:b,c\n::error::", "x\r\n::set-output name=y::z%")
    assert line == "::error title=a%3Ab%2Cc%0A%3A%3Aerror%3A%3A::x%0D%0A::set-output name=y::z%25"
