"""An error of a run says at which shapes the engine ran, once."""

import numpy as np
import pytest

from harness.backends.base import named_shapes, shapes_in_words
from harness.comparison.emulated_error import open_cpu
from harness.errors import DeviceLostError, RunError
from harness.graph import file as onnx_file
from tests.helpers.lowering import proto


def test_a_refused_run_names_its_shapes_in_words(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(
        proto("g (float[N] x, float[M] y) => (float[K] z) { z = Add(x, y) }").SerializeToString()
    )
    feeds = {"x": np.zeros(3, np.float32), "y": np.zeros(4, np.float32)}
    with open_cpu(onnx_file.read(path), ("z",)) as engine, pytest.raises(RunError) as caught:
        engine.run(feeds)
    assert str(caught.value).count("(at x=3, y=4)") == 1


def test_an_error_keeps_its_kind_and_names_the_innermost_shapes_once():
    with (
        pytest.raises(DeviceLostError, match=r"^gone \(at a=2x3, b=scalar\)$"),
        named_shapes({"c": np.zeros(1)}),
        named_shapes({"a": np.zeros((2, 3)), "b": np.zeros(())}),
    ):
        raise DeviceLostError("gone")
    assert shapes_in_words({}) == ""
