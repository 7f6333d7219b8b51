"""The search judges on the loop: a node whose every step is right, and whose sum over many is not."""

import onnx
import pytest
from onnx import TensorProto, helper

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines.subject import Subject
from harness.precision import Precision
from harness.search.case import Request, propose
from harness.spec.file import read_spec
from harness.storage.cache import Cache

SPEC = """
name = "sums"
[model]
onnx = "model.onnx"
[inputs.x]
dtype = "float32"
data = { generator = "uniform", low = 0.1, high = 0.2 }
[inputs.state]
dtype = "float32"
data = { generator = "uniform", low = 1000.0, high = 1001.0 }
[[profiles]]
shapes.x = [1, 8]
shapes.state = [1, 8]
"""
LOOP = """
[loop]
steps = 128
feed = { state_out = "state" }
series = ["x"]
initial = "data"
"""


def model():
    """A sum that FP16 adds nothing to, each step a small part of it, beside a product that FP16 can hold."""
    shape = [1, 8]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "state", "y", "state_out")
    ]
    nodes = [
        helper.make_node("Add", ["state", "x"], ["state_out"], "sum"),
        helper.make_node("Mul", ["state_out", "x"], ["product"], "product"),
        helper.make_node("Sqrt", ["product"], ["y"], "root"),
    ]
    graph = helper.make_graph(nodes, "sums", values[:2], values[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def subject_of(tmp_path):
    def make(text):
        onnx.save(model(), tmp_path / "model.onnx")
        (tmp_path / "spec.toml").write_text(text)
        backend = OnnxRuntimeBackend(isolate=False)
        return Subject(read_spec(tmp_path / "spec.toml"), backend, Cache(tmp_path / "cache"))

    return make


def test_a_sum_over_many_steps_is_what_must_stay_fp32(subject_of):
    single = propose(subject_of(SPEC), Request(Precision.FP16))
    assert single.result.nodes == ()
    many = propose(subject_of(SPEC + LOOP), Request(Precision.FP16))
    assert many.found
    assert many.result.nodes == ("sum",)
    assert many.loop is not None
    assert many.loop.triage.verdict == "pass"
