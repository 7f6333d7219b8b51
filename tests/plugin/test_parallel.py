"""Workers of pytest-xdist: GPUs and processors shared out, tests of an engine kept together."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.backends.cuda import gpus
from harness.options import Options
from harness.plugin import parallel
from harness.plugin.parallel import Parallel, models_of
from harness.plugin.run import Run
from harness.plugin.selection import Case, Selection
from harness.precision import Precision
from harness.report import results as results_json
from harness.report.collect import Phase
from tests.helpers.project import write_project
from tests.helpers.specs import made_spec
from tests.helpers.workers import Node, fake_smi


def cases_of_models(folder: Path, **sizes: int) -> list[Case]:
    """Cases at FP32 and FP16 of models whose files have `sizes` bytes."""
    cases = []
    for name, size in sizes.items():
        (folder / f"{name}.onnx").write_bytes(bytes(size))
        made = made_spec(name=name, model={"onnx": f"{name}.onnx"})
        cases += [Case(made, precision) for precision in (Precision.FP32, Precision.FP16)]
    return cases


def test_models_that_took_longest_come_first_after_those_that_no_run_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cases = cases_of_models(tmp_path, quick=500, slow=100, new=10, newer=20)
    seconds = {"quick-fp32": 3.0, "quick-fp16": 4.0, "slow-fp32": 8.0}
    assert list(dict.fromkeys(models_of(cases, seconds).values())) == ["newer", "new", "slow", "quick"]


def test_how_long_cases_take_is_read_from_the_last_runs(tmp_path: Path) -> None:
    test = "suites/test_outputs.py::test_outputs[net-{}]".format
    runs = {
        "run1": [
            (test("fp16"), 5.0),
            (test("fp32"), 1.0),
            ("suites/test_engines.py::test_engine[net-fp32]", 2.0),
        ],
        "run2": [(test("fp16"), 9.0), ("tests/test_x.py::test_y", 4.0)],
    }
    for name, tests in runs.items():
        outcomes = tuple(results_json.TestOutcome(nodeid, "passed", spent) for nodeid, spent in tests)
        results_json.write(results_json.Results(name, "2026-11-21", tests=outcomes), tmp_path / name)
    (tmp_path / "run3").mkdir()
    (tmp_path / "run3" / "results.json").write_text("{")
    run: Any = SimpleNamespace(
        selection=SimpleNamespace(ids=frozenset(["net-fp16", "net-fp32"])),
        collector=SimpleNamespace(folder=tmp_path / "run4"),
    )
    assert Parallel(run, 2).seconds() == {"net-fp16": 9.0, "net-fp32": 3.0}
    run.collector = None
    assert Parallel(run, 2).seconds() == {}


def test_the_largest_models_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a spec without a file looks for its model here
    cases = cases_of_models(tmp_path, a_small_one=10, large=1000)
    assert list(models_of(cases).items()) == [
        ("large-fp32", "large"),
        ("large-fp16", "large"),
        ("a_small_one-fp32", "a_small_one"),
        ("a_small_one-fp16", "a_small_one"),
    ]


def test_tests_are_grouped_by_case_others_by_file() -> None:
    run: Any = SimpleNamespace(options=Options(), selection=SimpleNamespace(ids=frozenset(["net-fp16"])))
    group = Parallel(run, 2).group
    assert group("suites/test_outputs.py::test_outputs[net-fp16]") == "net-fp16"
    assert group("suites/test_latency.py::test_latency[net-fp16:default-b1]") == "net-fp16"
    assert group("suites/test_x.py::test_y") == "suites/test_x.py"


def test_a_report_has_cases_in_the_order_of_the_run_whichever_worker_came_first(tmp_path: Path) -> None:
    cases = tuple(
        Case(made_spec(name=name), precision) for name in ("z", "a") for precision in list(Precision)[:2]
    )
    run = Run(Options(report_dir=tmp_path), (), tmp_path / "xfails.txt", True)
    run.__dict__["selection"] = Selection(cases, frozenset(case.id for case in cases))
    collector = run.start_report(tmp_path)
    for case in reversed(cases):
        collector.begin(f"suites/test_engines.py::test_engine[{case.id}]")
        collector.add(f"suites/test_engines.py::test_engine[{case.id}]", Phase("passed"))
        collector.end(f"suites/test_engines.py::test_engine[{case.id}]")
    run.finish_report(0, complete=True)
    found = results_json.read(collector.folder)
    assert [f"{record.model}-{record.precision}" for record in found.records] == [case.id for case in cases]


def test_another_way_of_sharing_is_left_to_xdist() -> None:
    run: Any = SimpleNamespace(options=Options(), selection=SimpleNamespace(ids=frozenset(), cases=()))
    config = SimpleNamespace(getvalue=lambda _: "worksteal")
    assert Parallel(run, 2).pytest_xdist_make_scheduler(config, None) is None


def test_workers_are_told_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "gpu_names", lambda: ("A", "B"))
    run: Any = SimpleNamespace(options=Options(provider="CUDAExecutionProvider"))
    found = Parallel(run, 2)
    nodes = [Node("gw0"), Node("gw1"), Node("gw2")]
    for node in nodes[:2]:
        found.pytest_configure_node(node)
    found.pytest_testnodedown(nodes[0])
    found.pytest_configure_node(nodes[2])
    assert [node.workerinput[gpus.GPU] for node in nodes] == ["A", "B", "A"]


WHO = """
import json, os, pathlib
def test_engine(case):
    seen = {"case": case.id, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "worker": os.environ.get("PYTEST_XDIST_WORKER")}
    with pathlib.Path("seen.jsonl").open("a") as file:
        file.write(json.dumps(seen) + chr(10))
"""
LOSE = """
from harness.errors import DeviceLostError
def test_engine(case):
    if case.precision == "fp32":
        raise DeviceLostError("CUDA failure 700: an illegal memory access was encountered")
"""


@pytest.fixture(name="project")
def _project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    fake_smi(pytester.path, monkeypatch)
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(pytester.path / "cache"))
    write_project(pytester.path, precisions=("fp32", "fp16", "bf16"))
    return pytester


@pytest.mark.slow
def test_n_auto_gives_every_worker_a_gpu_of_its_own(project: pytest.Pytester) -> None:
    (project.path / "suites" / "test_engines.py").write_text(WHO)
    project.makefile(".toml", pytest='[pytest]\naddopts = ["--import-mode=importlib"]\n')
    told = ("--trt-provider=CUDAExecutionProvider", "-nauto")
    project.runpytest_subprocess("suites", *told).assert_outcomes(passed=3)
    seen = [json.loads(line) for line in (project.path / "seen.jsonl").read_text().splitlines()]
    pairs = {(one["worker"], one["gpu"]) for one in seen}
    assert pairs <= {("gw0", "GPU-aa"), ("gw1", "GPU-bb")}
    assert len(seen) == 3


@pytest.mark.slow
def test_a_lost_device_costs_its_own_case_and_the_worker_is_replaced(project: pytest.Pytester) -> None:
    (project.path / "suites" / "test_engines.py").write_text(LOSE)
    done = project.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-n1")
    (run,) = (project.path / "reports").iterdir()
    found = results_json.read(run)
    told = {record.precision: (record.verdict, record.message) for record in found.records}
    assert [told[precision][0] for precision in ("fp32", "fp16", "bf16")] == ["error", "pass", "pass"]
    assert "illegal memory access" in told["fp32"][1]
    assert [test.outcome for test in found.tests if "fp32" not in test.nodeid] == ["passed", "passed"]
    done.stdout.fnmatch_lines(["*replacing crashed worker gw0*"])


@pytest.mark.slow
def test_a_backend_that_is_not_there_is_one_line_in_workers_too(project: pytest.Pytester) -> None:
    write_project(project.path, "outputs", precisions=("fp32", "fp16"))
    done = project.runpytest_subprocess("suites", "--trt-provider=NopeExecutionProvider", "-n2")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stdout.fnmatch_lines(["BackendUnavailableError: onnxruntime: *has no NopeExecutionProvider*"])
    done.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.slow
def test_a_driver_that_is_stuck_is_one_line_before_any_worker_starts(project: pytest.Pytester) -> None:
    (project.path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    project.makeconftest("import harness.backends.cuda.gpus\nharness.backends.cuda.gpus.SMI_S = 0.2\n")
    done = project.runpytest_subprocess("suites", "--trt-provider=CUDAExecutionProvider", "-n2")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: nvidia-smi did not answer within 0.2 s: *"])


@pytest.mark.slow
def test_latency_is_refused_in_workers(project: pytest.Pytester) -> None:
    write_project(project.path, "latency", precisions=("fp32",))
    done = project.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-n1", "-rs")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*not measured under xdist*"])
