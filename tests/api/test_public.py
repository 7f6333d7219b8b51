"""The public names: light to import, typed, and as their documentation shows."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import harness

ROOT = Path(__file__).resolve().parents[2]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
DOCUMENTED = ("comparing", "engines", "lowering", "validating")


def mlp() -> onnx.ModelProto:
    """fc1, act, fc2: x [n, 3] -> h -> r -> y [n, 2]."""
    rng = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(rng.normal(size=(3, 5)).astype(np.float32), "w1"),
        numpy_helper.from_array(rng.normal(size=(5, 2)).astype(np.float32), "w2"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "fc1"),
        helper.make_node("Abs", ["h"], ["r"], "act"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], "fc2"),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])]
        for name, size in (("x", 3), ("y", 2))
    ]
    graph = helper.make_graph(nodes, "mlp", *ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the user's, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_importing_it_loads_nothing_but_itself():
    code = """
import sys, time
before = time.perf_counter()
import harness
took = time.perf_counter() - before
heavy = {"numpy", "onnx", "onnxruntime", "pytest", "pydantic", "onnx_ir"} & set(sys.modules)
inside = {name for name in sys.modules if name.startswith("harness.")}
assert not heavy and not inside, (heavy, inside)
assert took < 0.1, took
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", harness.__all__)
def test_a_public_name_is_there_and_documented(name):
    found = getattr(harness, name)
    assert name == "Verdict" or found.__doc__
    assert name in dir(harness)


def test_there_are_few_public_names_each_with_one_home():
    assert len(harness.__all__) <= 30
    assert harness.__all__ == sorted(harness.__all__)
    assert set(harness._HOME_OF) == set(harness.__all__)
    with pytest.raises(AttributeError, match="no attribute 'validat'"):
        harness.validat  # noqa: B018 - the access raises
    assert (ROOT / "harness" / "py.typed").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("module", DOCUMENTED)
def test_the_examples_run(here, module):
    onnx.save(mlp(), here / "mlp.onnx")
    found = import_module(f"harness.api.{module}")
    tried = doctest.testmod(found, extraglobs={"mlp": str(here / "mlp.onnx"), "x": X}, optionflags=FLAGS)
    assert tried.attempted > 0
    assert tried.failed == 0


def test_every_public_function_has_an_example():
    functions = [getattr(harness, name) for name in harness.__all__ if name[0].islower()]
    own = [one for one in functions if one.__module__.startswith("harness.api.")]
    assert len(own) >= 11
    assert [one.__name__ for one in own if ">>>" not in (one.__doc__ or "")] == []


def test_the_first_script_of_a_new_user_runs(here):
    onnx.save(mlp(), here / "mine.onnx")
    script = """
import harness, numpy as np
x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
report = harness.validate("mine.onnx", precisions=["fp32", "fp16", "bf16"], data={"x": x}, checks=["outputs"])
print(report)
assert report, report.explain()
report.save("report")
lowered = harness.lower("mine.onnx", "fp16", fp32_nodes=["fc1", "fc2"])
lowered.save("mine-fp16.onnx")
ours = harness.emulate(lowered, {"x": x})["y"]
exact = harness.emulate(harness.lower("mine.onnx", "fp32"), {"x": x})["y"]
harness.assert_close(ours, exact, 1e-3)
"""
    assert len(script.strip().splitlines()) <= 12
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=here
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bf16       pass" in done.stdout
    assert {"report.html", "results.json", "summary.md"} <= {p.name for p in (here / "report").iterdir()}
    kept = [node.op_type for node in onnx.load(here / "mine-fp16.onnx").graph.node]
    assert {"Clip", "Cast", "MatMul", "Abs"} == set(kept)  # products that stay FP32 are fenced
