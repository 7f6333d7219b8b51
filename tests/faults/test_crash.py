"""A model that makes the runtime crash, hang or eat all memory costs its own cases, which say how it died."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.report import results
from tests.helpers.project import SUITES, write_case, write_project

# Stands in for ONNX Runtime in the child processes alone; `wide` is told by its three outputs.
DEADLY = """\
import ctypes, os, time
from harness.backends.onnxruntime import trial as ort_trial
from harness.engines import trial

def die():
    {death}

def wide(path):
    import onnx
    return onnx.load(path).graph.output[0].type.tensor_type.shape.dim[1].dim_value == 3

def try_face(path, settings, shapes):
    return die() if wide(path) else ort_trial.try_face(path, settings, shapes)

def run(path, feed):
    return die() if wide(path) else real_run(path, feed)

real_run = trial._run
"""
CONFTEST = """\
pytest_plugins = ["harness.plugin.hooks"]
import deadly
from harness.backends.onnxruntime import backend as onnxruntime
from harness.engines import trial
onnxruntime.try_face = deadly.try_face
trial._run = deadly.run
trial.TIMEOUT_S = 5.0
onnxruntime.OnnxRuntimeBackend.__init__.__defaults__ = tuple(
    5.0 if value == 600.0 else value for value in onnxruntime.OnnxRuntimeBackend.__init__.__defaults__
)
onnxruntime.memory_limit = trial.memory_limit = lambda: 1 << 30
"""
DEATHS = {
    "segmentation fault": ("ctypes.string_at(0)", "died of SIGSEGV"),
    "abort": ("os.abort()", "died of SIGABRT"),
    "out of memory": ("bytearray(1 << 40)", "ran out of memory"),
    "killed by the system": ("os.kill(os.getpid(), 9)", "died of SIGKILL"),
    "hang": ("time.sleep(600)", "did not finish within 5 s"),
}


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    def made(death: str) -> Path:
        root = pytester.path
        monkeypatch.setenv("TRT_HARNESS_CACHE", str(root / "cache"))
        monkeypatch.setenv("PYTHONPATH", f"{SUITES.parent}:{root}")
        write_project(root, "engines", "outputs", precisions=("fp32",), extra="")
        weight: Any = [[1.0, 2.0, 3.0]] * 4
        write_case(root / "suites/models/wide", "wide", ("fp32", "int8"), extra="", weight=weight)
        (root / "conftest.py").write_text(CONFTEST)
        (root / "deadly.py").write_text(DEADLY.format(death=death))
        pytester.runpytest_subprocess("suites", "--trt-backend=onnxruntime", timeout=120)
        (run,) = (root / "reports").iterdir()
        return run

    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", DEATHS)
def test_a_model_that_kills_the_runtime_costs_its_own_cases(
    project: Callable[[str], Path], name: str
) -> None:
    death, words = DEATHS[name]
    found = results.read(project(death))
    assert found.complete
    assert {r.verdict for r in found.records if r.model == "net"} == {"pass"}
    dead = [r for r in found.records if r.model == "wide"]
    dead, others = [r for r in dead if r.verdict == "error"], [r for r in dead if r.verdict != "error"]
    assert {(r.kind, r.precision) for r in dead} == {("engine", "fp32"), ("engine", "int8")}
    assert all(r.verdict == "skipped" and "for the error of suites/test_eng" in r.message for r in others)
    assert all(words in r.message for r in dead), [r.message for r in dead]
    if name in ("segmentation fault", "abort", "hang"):
        assert all(re.search(r'File ".*deadly\.py", line \d+ in die', r.message) for r in dead)
