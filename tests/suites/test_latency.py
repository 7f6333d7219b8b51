"""suites/test_latency.py as users run it: pytest-benchmark's options, xdist, baselines."""

from __future__ import annotations

import dataclasses
import json

import pytest
import scipy.stats  # noqa: F401

# Runs in this process import nothing anew: modules written in C do not bear being loaded twice.
import harness.backends.onnxruntime.backend
import harness.engines.subject
import harness.latency.bench
import harness.plugin.preflight
import harness.report.pages.html
import harness.verdict.validate  # noqa: F401
from harness.report import results as results_json
from tests.helpers.project import SUITES, TASK, write_project

QUICK = ("--benchmark-max-time=0.02", "--trt-backend=onnxruntime")


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(pytester, monkeypatch, shared_cache):
    """A project with the latency suite and one FP32 model at two batch sizes."""
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(shared_cache))
    monkeypatch.setenv("PYTHONPATH", str(SUITES.parent))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # where the tests of the harness run in one
    extra = f"{TASK}\n[benchmark]\nbatch_sizes = [1, 4]\n"
    write_project(pytester.path, "latency", precisions=("fp32",), extra=extra)
    return pytester


def run(project, *arguments):
    return project.runpytest_inprocess("suites", *QUICK, *arguments)


def newest(project):
    return max((project.path / "reports").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)


def test_each_batch_size_is_measured_and_recorded(project):
    result = run(project, "--benchmark-json=bench.json", "--benchmark-autosave")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_latency[[]net-fp32:default-b1[]]*"])
    records = results_json.read(newest(project)).records
    assert [(r.kind, r.precision, r.data["batch"], r.verdict) for r in records] == [
        ("latency", "fp32", 1, "pass"), ("latency", "fp32", 4, "pass"),
    ]  # fmt: skip
    assert all(r.manifest and r.data["machine"]["threads"] for r in records)
    benchmarks = json.loads((project.path / "bench.json").read_text())["benchmarks"]
    samples = [benchmark["stats"]["data"] for benchmark in benchmarks]
    assert samples == [list(record.data["host"]["samples_s"]) for record in records]
    assert benchmarks[1]["extra_info"]["batch"] == 4
    assert list((project.path / ".benchmarks").rglob("*.json"))


def test_pytest_benchmarks_switches_work(project):
    run(project, "--benchmark-disable").assert_outcomes(skipped=2)
    run(project, "--benchmark-skip").assert_outcomes(skipped=2)


def test_minimum_rounds_are_pytest_benchmarks(project):
    run(project, "--benchmark-min-rounds=200", "--benchmark-max-time=0").assert_outcomes(passed=2)
    assert len(results_json.read(newest(project)).records[0].data["host"]["samples_s"]) == 200


@pytest.mark.slow
def test_xdist_is_refused_with_the_reason(project):
    result = project.runpytest_subprocess("suites", *QUICK, "-n2", "-rs", "-p", "no:warnings")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*latency is not measured under xdist*"])


def rewrite(folder, factor, **machine):
    """The run in `folder` with latencies multiplied, as if measured on a quicker machine or another one."""
    found = results_json.read(folder)
    records = [_faster(record, factor, machine) for record in found.records]
    results_json.write(dataclasses.replace(found, records=tuple(records)), folder)


def _faster(record, factor, machine):
    host = record.data["host"]
    host = {**host, "samples_s": [time * factor for time in host["samples_s"]]}
    return dataclasses.replace(
        record, data={**record.data, "host": host, "machine": {**record.data["machine"], **machine}}
    )


@pytest.fixture
def base(project):
    """The folder of a finished run."""
    run(project)
    return newest(project)


def test_a_slower_engine_fails_and_is_measured_again(project, base):
    rewrite(base, 0.25)
    result = run(project, f"--trt-baseline={base}", "--trt-gate=strict")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["regressed against the baseline:", "  net[[]fp32[]] latency*p50_s*"])
    result.stdout.fnmatch_lines(["against the baseline: 2 regressions*"])
    folder = newest(project)
    assert len(results_json.read(folder).records[0].data["repeats"]) == 2
    assert "2 regressions" in (folder / "summary.md").read_text()
    assert "badge regression" in (folder / "report.html").read_text()


def test_a_faster_engine_passes(project, base):
    rewrite(base, 4.0)
    result = run(project, f"--trt-baseline={base}")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["against the baseline: 2 improvements*"])


def test_another_machine_is_not_comparable(project, base):
    rewrite(base, 0.25, device="another")
    result = run(project, f"--trt-baseline={base}")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*not comparable: device: another -> *"])


def test_interleaving_measures_the_baselines_engine_beside(project, base):
    rewrite(base, 0.25)
    run(project, f"--trt-baseline={base}", "--trt-interleave")
    record = results_json.read(newest(project)).records[0]
    assert record.data["interleaved"]["manifest"] == record.manifest


def test_an_engine_of_another_backend_is_never_measured_beside(project, base):
    found = results_json.read(base)
    others = tuple(dataclasses.replace(record, backend="tensorrt") for record in found.records)
    results_json.write(dataclasses.replace(found, records=others), base)
    run(project, f"--trt-baseline={base}", "--trt-interleave").assert_outcomes(passed=2)
    assert "interleaved" not in results_json.read(newest(project)).records[0].data


def test_interleaving_without_the_engine_in_the_cache_says_so(project, base):
    found = results_json.read(base)
    gone = [dataclasses.replace(record, manifest="0" * 64) for record in found.records]
    results_json.write(dataclasses.replace(found, records=tuple(gone)), base)
    result = run(project, f"--trt-baseline={base}", "--trt-interleave")
    result.stdout.fnmatch_lines(["*net-fp32: the cache has no engine of the baseline*"])


@pytest.mark.parametrize(
    ("baseline", "line"),
    [
        ("none.json", "no comparison with a baseline: none.json: no such file or folder*"),
        ("conftest.py", "no comparison with a baseline: conftest.py: truncated or not JSON*"),
    ],
)
def test_a_wrong_baseline_is_one_line_and_the_report_is_still_made(project, baseline, line):
    result = run(project, f"--trt-baseline={baseline}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([line, "*= TensorRT harness =*", line])
    folder = newest(project)
    for page in ("report.html", "summary.md"):
        assert "no comparison with a baseline" in (folder / page).read_text()


def test_interleaving_without_a_baseline_is_one_line(project):
    result = run(project, "--trt-interleave")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--trt-interleave: needs --trt-baseline"])
