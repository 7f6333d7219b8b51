"""Networks that a spec's own function makes, built with TensorRT-RTX."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest

from harness.backends.tensorrt.audit.record import PLAN
from harness.backends.tensorrt.bindings import Bindings
from harness.backends.tensorrt.builder.build import Aids, BuildTask, NetworkCode, build
from harness.errors import BuildError
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec, Profile, ShapeRange
from tests.helpers.tensorrt import rtx


@pytest.fixture(name="bindings")
def _bindings() -> Bindings:
    return rtx()


CODE = """
def build(network, weights, trt):
    x = network.add_input("x", trt.float32, (-1, 4))
    w = trt.Weights(trt.float32, weights["w"].ctypes.data, 32)
    product = trt.MatrixOperation.NONE
    y = network.add_matrix_multiply(x, product, network.add_constant((4, 8), w).get_output(0), product)
    network.mark_output(y.get_output(0))

def nothing(network, weights, trt):
    network.add_input("x", trt.float32, (-1, 4))
"""


def code_task(folder: Path, function: str) -> BuildTask:
    """A task whose network comes from a function in CODE."""
    (folder / "net.py").write_text(CODE)
    profile = Profile(shapes={"x": ShapeRange(min=(1, 4), opt=(2, 4), max=(4, 4))})
    code = NetworkCode(f"net.py:{function}", folder / "w.npz")
    return BuildTask(Precision.FP32, (profile,), BuildSpec(), base=folder, network=code)


def test_weights_of_network_code_live_until_the_engine_is_built(
    bindings: Bindings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"w": np.ones((4, 8), np.float32)}
    alive, seen = weakref.ref(weights["w"]), []
    monkeypatch.setattr(
        "harness.backends.tensorrt.builder.network_code.read_weights", lambda _: {"w": weights.pop("w")}
    )
    aids = Aids(progress=lambda *_: seen.append(alive() is not None))
    build(bindings, code_task(tmp_path, "build"), tmp_path / "none.onnx", tmp_path / PLAN, aids)
    assert all(seen)
    assert seen
    assert alive() is None


def test_network_code_that_makes_nothing_is_named(bindings: Bindings, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.ones((4, 8), np.float32))
    with pytest.raises(BuildError, match=r"net\.py:nothing gave the network no layers or outputs"):
        build(bindings, code_task(tmp_path, "nothing"), tmp_path / "none.onnx", tmp_path / PLAN)
