"""What goes to a TensorRT builder past the ONNX graph, from specs to real builds on TensorRT-RTX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.choose import create
from harness.backends.tensorrt.audit.record import PLAN, read_layers
from harness.engines.native import native_of, weakly_typed
from harness.engines.subject import Subject
from harness.errors import BuildError, NotHonouredError, SpecError, UsageError
from harness.graph import file as onnx_file
from harness.options import Options
from harness.precision import Precision, PrecisionPlan
from harness.spec.file import read_spec
from harness.spec.model_spec import ModelSpec
from harness.storage.cache import Cache
from tests.helpers.tensorrt import classifier, rtx

SPEC = """
name = "cnn"
[model]
onnx = "model.onnx"
{model}
[inputs.x]
dtype = "float32"
data = {{ generator = "normal" }}
[[profiles]]
shapes.x = {{ min = [1, 3, 8, 8], opt = [2, 3, 8, 8], max = [4, 3, 16, 16] }}
[build]
{build}
[precision.int8.calibration]
method = "entropy"
samples = 4
"""
NETWORK = """
def build(network, weights, trt):
    x = network.add_input("x", trt.float32, (-1, 3, -1, -1))
    conv = network.add_convolution_nd(x, 8, (3, 3), trt.Weights(weights["w"]), trt.Weights())
    conv.padding_nd = (1, 1)
    pool = network.add_reduce(conv.get_output(0), trt.ReduceOperation.AVG, 12, False)
    pool.get_output(0).name = "y"
    network.mark_output(pool.get_output(0))

def broken(network, weights, trt):
    raise ValueError("no luck")
"""


def spec(folder: Path, model: str = "", build: str = "") -> ModelSpec:
    onnx_file.write(classifier(), folder / "model.onnx")
    (folder / "spec.toml").write_text(SPEC.format(model=model, build=build))
    (folder / "net.py").write_text(NETWORK)
    np.savez(folder / "w.npz", w=np.ones((8, 3, 3, 3), np.float32))
    return read_spec(folder / "spec.toml")


FP32, INT8 = PrecisionPlan(Precision.FP32), PrecisionPlan(Precision.INT8)


def subject(found: ModelSpec, **options: Any) -> Subject:
    rtx()
    return Subject(found, create("tensorrt_rtx"), Cache(found.folder / "cache"), Options(**options))


def test_a_network_of_the_network_api_is_built(tmp_path: Path) -> None:
    found = subject(spec(tmp_path, 'network = "net.py:build"\nweights = "w.npz"')).engine(Precision.FP32)
    network, _ = read_layers(found.folder)
    assert [layer.type for layer in network if layer.type != "CONSTANT"] == ["CONVOLUTION", "REDUCE"]
    assert not found.manifest.audit.problems


def test_what_network_code_raises_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cnn\[fp32\]: net.py:broken: raised ValueError: no luck"):
        subject(spec(tmp_path, 'network = "net.py:broken"')).engine(Precision.FP32)


def test_network_code_runs_only_where_code_may(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trt-no-code"):
        subject(spec(tmp_path, 'network = "net.py:build"'), allow_code=False).engine(Precision.FP32)


def test_a_finished_engine_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.plan").write_bytes(b"a plan of mine")
    found = subject(spec(tmp_path, 'engine = "mine.plan"')).engine(Precision.FP32)
    assert (found.folder / PLAN).read_bytes() == b"a plan of mine"
    assert found.manifest.engine_bytes == len(b"a plan of mine")


def test_another_engine_file_is_another_engine(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        (tmp_path / "mine.plan").write_bytes(content)
        found = spec(tmp_path, 'engine = "mine.plan"')
        assert (subject(found).engine(Precision.FP32).folder / PLAN).read_bytes() == content


@pytest.mark.parametrize(
    ("model", "build", "key"),
    [
        ('engine = "gone.plan"', "", "model.engine"),
        ('network = "net.py:build"\nweights = "gone.npz"', "", "model.weights"),
        ("", 'plugins = ["gone.so"]', "build.plugins[0]"),
        ("", 'typing = "weak"\ncalibration_cache = "gone.cache"', "build.calibration_cache"),
    ],
)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, model: str, build: str, key: str) -> None:
    with pytest.raises(SpecError) as caught:
        native_of(spec(tmp_path, model, build), FP32, "tensorrt")
    assert caught.value.key == key


def test_onnx_runtime_builds_from_onnx_alone(tmp_path: Path) -> None:
    with pytest.raises(NotHonouredError, match=r"onnxruntime builds from ONNX, not 'net\.py:build'"):
        native_of(spec(tmp_path, 'network = "net.py:build"'), FP32, "onnxruntime")


def test_weak_typing_hands_over_calibration_data_and_the_fp32_graph(tmp_path: Path) -> None:
    weak = spec(tmp_path, build='typing = "weak"')
    found = native_of(weak, INT8, "tensorrt")
    assert found.calibration is not None
    assert found.calibration.method == "entropy"
    assert [batch["x"].shape for batch in found.calibration.batches()] == [(2, 3, 8, 8)] * 2
    assert found.files["calibration"]
    assert native_of(weak, FP32, "tensorrt").calibration is None
    assert native_of(spec(tmp_path), INT8, "tensorrt").calibration is None


def test_weak_typing_keeps_nodes_by_the_plan() -> None:
    source = classifier()
    lowered = weakly_typed(source, PrecisionPlan(Precision.FP16, ("f*",), ("Softmax",)))
    assert lowered.model is source
    assert set(lowered.summary.kept) == {"flat", "fc", "softmax"}


def test_weak_typing_on_rtx_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(NotHonouredError, match="the lowered graph carries the plan"):
        subject(spec(tmp_path, build='typing = "weak"')).engine(Precision.FP16)
