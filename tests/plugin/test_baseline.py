"""`--trt-baseline`: what the baseline has and the run has not fails a run of the whole suites."""

import shutil

import pytest

# Runs in this process import nothing anew: modules written in C do not bear being loaded twice.
import harness.backends.onnxruntime.backend
import harness.engines.subject
import harness.plugin.preflight
import harness.report.pages.html
import harness.verdict.validate  # noqa: F401
from harness.report import results as results_json
from tests.helpers.project import only_run, run, write_case


@pytest.fixture
def baseline(project):
    """A run of two models, one of which is gone after it."""
    write_case(project.path / "suites" / "models" / "other", "other", precisions=["fp32"], extra="")
    run(project).assert_outcomes(passed=3)
    kept = shutil.move(only_run(project), project.path / "baseline")
    shutil.rmtree(project.path / "suites" / "models" / "other")
    return kept


def test_a_model_that_is_gone_fails_the_run_and_is_named(project, baseline):
    result = run(project, f"--trt-baseline={baseline}")
    assert result.ret == 1
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["gone: other[[]fp32[]] engine on onnxruntime: *"])
    assert results_json.read(only_run(project)).complete


@pytest.mark.parametrize("options", [("--trt-allow-missing=other",), ("--trt-model=net",), ("-k", "net")])
def test_what_is_meant_or_not_asked_for_is_no_loss(project, baseline, options):
    assert run(project, f"--trt-baseline={baseline}", *options).ret == 0


def test_a_baseline_of_other_models_alone_compares_nothing(project, baseline):
    shutil.rmtree(project.path / "suites" / "models" / "net")
    write_case(project.path / "suites" / "models" / "third", "third", precisions=["fp32"], extra="")
    result = run(project, f"--trt-baseline={baseline}", "--trt-allow-missing=*")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["nothing was compared: *"])
