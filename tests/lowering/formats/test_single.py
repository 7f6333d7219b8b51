"""Float64 models in FP32: types, names, results; the reference stays float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines.subject import Subject
from harness.graph import file as onnx_file
from harness.lowering.formats.single import to_single
from harness.lowering.lower import lower
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import ModelSpec
from harness.storage.cache import Cache
from tests.helpers.lowering import model, mre, run, tensor_names, types

RNG = np.random.default_rng(3)
W = RNG.standard_normal((8, 4))
X = {"x": RNG.standard_normal((4, 8))}
NET = "g (double[4,8] x) => (double[4,4] y, double[4,4] m) { [mm] m = MatMul(x, w) [act] y = Tanh(m) }"


def computing(found: ir.Model) -> set[str]:
    """Types of what is not merely cast."""
    nodes = (node for node in found.graph.all_nodes() if node.op_type != "Cast")
    ends = (value for node in nodes for value in (*node.inputs, *node.outputs) if value is not None)
    return {value.dtype.name for value in ends if value.dtype is not None}


def agrees(wide: ir.Model, feeds: dict[str, Any]) -> ir.Model:
    """`wide` in FP32, once it has been seen to keep names and types of inputs and outputs, and results."""
    single = to_single(wide)
    assert tensor_names(wide) <= tensor_names(single)
    expected, actual = run(wide, feeds), run(single, feeds)
    for name, values in expected.items():
        assert actual[name].dtype == values.dtype
        assert mre(actual[name], values) < 1e-6
    return single


def test_a_float64_model_computes_in_fp32() -> None:
    single = agrees(model(NET, w=W), X)
    assert computing(single) == {"FLOAT"}
    assert types(single)["w"] == "FLOAT"


def test_it_is_not_float64_in_disguise() -> None:
    wide = model(NET, w=W)
    assert mre(run(to_single(wide), X)["y"], run(wide, X)["y"]) > 1e-9


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_it_goes_on_to_16_bits(precision: Precision) -> None:
    lowered = lower(to_single(model(NET, w=W)), PrecisionPlan(precision))
    assert {"mm", "act"} <= set(lowered.summary.lowered)


def test_attributes_subgraphs_and_constants() -> None:
    text = """g (double[2] x, bool c, int64[1] n) => (double[k] y) {
      z = ConstantOfShape <value = double[1] {2.5}> (n)
      h = Cast <to = 11> (n)
      s = If (c) <
        then_branch = t () => (double[2] p) { p = Add(x, x) },
        else_branch = e () => (double[2] q) { q = Identity(x) } >
      a = Mul(s, h)
      y = Concat <axis = 0> (a, z, x) }"""
    wide = model(text)
    for c in (True, False):
        feeds = {"x": np.array([0.1, 0.2]), "c": np.array(c), "n": np.array([3])}
        single = agrees(wide, feeds)
    assert "DOUBLE" not in computing(single)


def test_attributes_that_name_the_output_type() -> None:
    single = agrees(
        model(
            "g (double[4] x) => (double[4] y) { h = HannWindow <output_datatype = 11> (n) y = Mul(x, h) }",
            n=np.array(4),
        ),
        {"x": np.array([0.1, 0.2, 0.3, 0.4])},
    )
    assert computing(single) == {"FLOAT", "INT64"}


def test_outputs_that_no_node_makes() -> None:
    agrees(
        model("g (double[2] x) => (double[2] x, double[2] w, double[2] y) { y = Add(x, w) }", w=W[0, :2]),
        {"x": X["x"][0, :2]},
    )


def test_models_that_only_cast_stay_as_they_are() -> None:
    text = "g (double[2] x) => (double[2] y) { a = Cast <to = 1> (x) b = Neg(a) y = Cast <to = 11> (b) }"
    found = model(text)
    assert to_single(found) is found


def test_custom_operators_keep_their_types() -> None:
    text = "g (double[2] x) => (double[2] y) { a = Neg(x) b = custom.op(a) y = Neg(b) }"
    found = model(text)
    for value in found.graph.all_nodes():
        value.outputs[0].type = ir.TensorType(ir.DataType.DOUBLE)
    single = to_single(found)
    custom = next(node for node in single.graph if node.domain)
    assert [value.dtype for value in (*custom.inputs, *custom.outputs)] == [ir.DataType.DOUBLE] * 2
    assert [n.inputs[0].dtype for n in single.graph if n.op_type == "Neg"] == [ir.DataType.FLOAT] * 2


def test_engines_are_held_against_the_float64_model(tmp_path: Path) -> None:
    onnx_file.write(model(NET.replace("[4,", "[N,"), w=W), tmp_path / "model.onnx")
    spec = ModelSpec.model_validate(
        {
            "name": "wide",
            "model": {"onnx": str(tmp_path / "model.onnx")},
            "inputs": {"x": {"dtype": "float64", "data": {"generator": "normal"}}},
            "profiles": [{"shapes": {"x": [4, 8]}}],
        }
    )
    subject = Subject(spec, OnnxRuntimeBackend(isolate=False), Cache(tmp_path))
    feed = subject.feeds.feed({"x": (4, 8)})
    expected = subject.reference().outputs(feed)
    np.testing.assert_array_equal(expected["m"], run(subject.exact, feed)["m"])
    for precision, limit in ((Precision.FP32, 5e-6), (Precision.FP16, 5e-3), (Precision.INT8, 1e-1)):
        built = subject.engine(precision)
        assert not built.manifest.audit.problems
        with built.open() as engine:
            assert 0 < mre(engine.run(feed)["m"], expected["m"]) < limit
    assert "float64" in subject.remarks[0]
