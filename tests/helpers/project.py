"""A small project of suites, with one model of four numbers in and two out."""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SUITES = Path(__file__).resolve().parents[2] / "suites"

SPEC = """\
name = "{name}"
precisions = {precisions}
model.onnx = "model.onnx"
profiles = [{{ shapes = {{ x = {{ min = [1, 4], opt = [2, 4], max = [5, 4] }} }} }}]
[inputs.x]
dtype = "float32"
data = {{ npz = "data.npz", member = "x" }}
"""
TASK = """\
[task]
labels = { npz = "data.npz", member = "labels" }
"""


def write_model(file, weight=None):
    """y = relu(x W), with a dynamic batch."""
    weight = np.asarray(np.eye(4, 2) + 0.25 if weight is None else weight, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="matmul"),
            helper.make_node("Relu", ["h"], ["y"], name="relu"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), file)


def write_case(folder, name="net", precisions=("fp32", "fp16"), extra=TASK, weight=None):
    """A folder with spec, model, and 16 labelled samples that the model gets right."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / "model.onnx", weight)
    labels = np.arange(16) % 2
    x = np.random.default_rng(0).uniform(0.5, 1, (16, 4)).astype(np.float32)
    x[np.arange(16), labels] += 4
    np.savez(folder / "data.npz", x=x, labels=labels)
    (folder / "spec.toml").write_text(SPEC.format(name=name, precisions=list(precisions)) + extra)
    return folder / "spec.toml"


def write_project(root, *suites, **case):
    """A checkout in little: the named suite files of this repository, and one model beside them."""
    (root / "conftest.py").write_text('pytest_plugins = ["harness.plugin.hooks"]\n')
    (root / "pyproject.toml").write_text('[tool.pytest]\naddopts = ["--import-mode=importlib"]\n')
    write_case(root / "suites" / "models" / "net", **case)
    for name in suites:
        shutil.copy(SUITES / f"test_{name}.py", root / "suites")


def run(project, *arguments):
    """A run of the project's suites in this process."""
    return project.runpytest_inprocess("suites", "--trt-backend=onnxruntime", *arguments)


def only_run(project):
    """The folder of the one run that the project has."""
    (folder,) = (project.path / "reports").iterdir()
    return folder
