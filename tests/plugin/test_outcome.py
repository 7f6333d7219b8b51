"""What concerns a whole case is one error; tests that meet it again are skipped and say where it is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

# Runs in this process import nothing anew: modules written in C do not bear being loaded twice.
import harness.backends.onnxruntime.backend
import harness.engines.subject
import harness.plugin.preflight
import harness.report.pages.html
import harness.verdict.validate  # noqa: F401
from harness.errors import RunError
from harness.options import Options
from harness.plugin.outcome import chained, fail_regressed
from harness.plugin.run import Run
from harness.records import Record
from harness.report import results as results_json
from tests.helpers.project import SUITES, TASK, write_project
from tests.helpers.results import outputs_record


@pytest.fixture
def project(pytester, monkeypatch, tmp_path):
    """A project whose spec asks for what ONNX Runtime's CPU provider lacks."""
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(SUITES.parent))
    write_project(pytester.path, "engines", "outputs", "accuracy", extra=f"{TASK}\n[build]\ntf32 = true\n")
    return pytester


def run(project, *arguments):
    return project.runpytest_inprocess("suites", "--trt-backend=onnxruntime", *arguments)


def test_an_engine_that_cannot_be_built_is_one_error(project):
    result = run(project, "-rs")
    result.assert_outcomes(errors=2, skipped=6)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    assert text.count("NotHonouredError: net[fp32]: the CPU provider has no TF32") == 1
    result.stdout.fnmatch_lines(
        ["*not run, for the error of suites/test_engines.py::test_engine[[]net-fp16]"]
    )
    tests = results_json.read(next((project.path / "reports").iterdir())).tests
    assert sorted(test.outcome for test in tests) == ["error"] * 2 + ["skipped"] * 6
    assert all("TF32" in test.message for test in tests if test.outcome == "error")


def test_it_is_told_whichever_test_comes_first(project):
    run(project, "-k", "accuracy").assert_outcomes(errors=2)


def test_in_workers_it_is_one_error_too(project):
    project.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-n2").assert_outcomes(
        errors=2, skipped=6
    )
    tests = results_json.read(next((project.path / "reports").iterdir())).tests
    assert all(t.message.startswith("NotHonouredError: net[") for t in tests if t.outcome == "error")


class Counted(list[Record]):
    """A baseline that counts how often it is gone through."""

    gone_through = 0

    def __iter__(self):
        self.gone_through += 1
        return super().__iter__()


def test_each_test_is_held_against_its_own_case_and_the_baseline_gone_through_once(tmp_path):
    run = Run(Options.parse({"trt_baseline": str(tmp_path)}), (), tmp_path / "xfails.txt", concerned=True)
    baseline = Counted(outputs_record(f"m{i}") for i in range(9))
    vars(run)["baseline"] = baseline
    outcomes = []
    for record in (outputs_record("m1"), outputs_record("m2", mre=1e-2), outputs_record("m10", mre=1e-2)):
        report = SimpleNamespace(trt_records=[record.to_json()], outcome="passed", longrepr=None)
        fail_regressed(report, run)
        outcomes.append(report.outcome)
    assert outcomes == ["passed", "failed", "passed"]
    assert baseline.gone_through == 1


def test_an_expected_error_hides_no_other(project):
    (project.path / "suites" / "xfails.txt").write_text(
        "suites/test_engines.py::test_engine[net-fp32]  # known\n"
    )
    result = run(project)
    result.assert_outcomes(xfailed=1, errors=2, skipped=5)


def test_a_cause_that_says_the_same_is_told_once() -> None:
    same, other = RunError("ONNX Runtime: no such index"), RunError("the case died")
    same.__cause__, other.__cause__ = ValueError("no such index"), ValueError("no memory")
    assert chained(same) == "RunError: ONNX Runtime: no such index"
    assert chained(other) == "RunError: the case died\n  because of ValueError: no memory"
