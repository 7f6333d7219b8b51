"""Emulated models, and the node-by-node oracle, against NumPy over generated graphs: equal to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.backends.onnxruntime.models import run_model
from harness.backends.onnxruntime.nodewise import Nodewise
from harness.backends.onnxruntime.session import SessionSettings
from harness.lowering.emulation import emulate as emulation
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower, quantizable
from harness.lowering.model import LoweredModel, LoweringSummary
from harness.lowering.operators import MOVES as MOVED
from harness.lowering.operators import PASS_THROUGH
from harness.precision import Precision, PrecisionPlan
from tests.helpers import graphs
from tests.helpers.evaluator import UndefinedError, evaluate
from tests.helpers.lowering import model, node_names

HALVES = {Precision.FP16: "float16", Precision.BF16: "bfloat16"}
LEVELS = ("none", "basic")


def typed(found: ir.Model, precision: Precision) -> LoweredModel:
    """A model that has its 16 bits from its file."""
    return LoweredModel(found, PrecisionPlan(precision), LoweringSummary())


def numpy(lowered: LoweredModel, feeds: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return evaluate(lowered.model, feeds)
    except UndefinedError:
        assume(False)
        raise


def answers(lowered: LoweredModel, feeds: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the emulation says at each level, and what the oracle says."""
    emulated = emulate(lowered)
    found = {level: run_model(emulated, feeds, settings=SessionSettings(level=level)) for level in LEVELS}
    with Nodewise(lowered.model) as oracle:
        found["oracle"] = oracle.run(feeds)
    return found


def assert_equal(lowered: LoweredModel) -> None:
    expected = numpy(lowered, graphs.X)
    for who, outputs in answers(lowered, graphs.X).items():
        for name, array in outputs.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{who} {name}")


@pytest.mark.parametrize("precision", HALVES)
@given(graphs.graphs(), st.data())
@settings(max_examples=25, deadline=None)
def test_lowered_graphs(precision: Precision, found: ir.Model, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(node_names(found)), max_size=2, unique=True))
    assert_equal(lower(found, PrecisionPlan(precision, tuple(kept))))


@pytest.mark.parametrize("precision", HALVES)
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_graphs_of_16_bits(precision: Precision, data: st.DataObject) -> None:
    """Their bodies read, carry and make 16-bit tensors."""
    assert_equal(typed(data.draw(graphs.graphs(HALVES[precision])), precision))


def forms(group: tuple[str, ...]) -> list[Any]:
    return [
        pytest.param(form, id=form.split(" = ")[-1][:24].strip() + str(k)) for k, form in enumerate(group)
    ]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("form", forms((*graphs.MOVES, *graphs.BODIES)))
def test_a_rounding_before_and_behind_each(form: str, precision: Precision) -> None:
    """Producer, node, consumer, as issue reports have them: what is lost of one is more than half of it."""
    assert_equal(typed(between(form, HALVES[precision]), precision))
    assert_equal(lower(between(form, "float"), PrecisionPlan(precision)))


def between(form: str, number: str) -> ir.Model:
    lines = [
        graphs.line("y = Add({a}, {b})", 0, "x_", "much_", number),
        graphs.line(form, 1, "n0_y", "near_", number),
        graphs.line("y = Sub({a}, {b})", 2, "n1_y", "much_", number),
    ]
    return graphs.built(lines, ["n2_y"], number)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("form", forms(graphs.COMPUTING))
def test_a_rounding_before_and_behind_each_that_computes(form: str, precision: Precision) -> None:
    """Against the oracle, which has the runtime's own FP32 kernels: to the bit."""
    lowered = lower(between(form, "float"), PrecisionPlan(precision))
    found = answers(lowered, graphs.X)
    for level in LEVELS:
        np.testing.assert_array_equal(found[level]["out_n2_y"], found["oracle"]["out_n2_y"], err_msg=level)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("form", forms(graphs.ROUNDED))
def test_sums_and_functions_differ_by_an_ulp_at_most_and_seldom(form: str, precision: Precision) -> None:
    number, rng, apart, size = HALVES[precision], np.random.default_rng(11), 0, 0
    lines = [graphs.line(form, 0, "x_", "near_", number), graphs.line(graphs.MOVES[9], 1, "n0_y", "", number)]
    lowered = typed(graphs.built(lines, ["n1_y"], number), precision)
    for _ in range(10):
        feeds = {"x": rng.standard_normal(graphs.SHAPE).astype(np.float32)}
        expected = evaluate(lowered.model, feeds)["out_n1_y"]
        for outputs in answers(lowered, feeds).values():
            steps = ulps(outputs["out_n1_y"], expected, precision)
            assert steps.max() <= 1
            apart, size = apart + np.count_nonzero(steps), size + steps.size
    assert apart <= 0.005 * size


def ulps(actual: Any, expected: Any, precision: Precision) -> Any:
    """How many 16-bit numbers lie between, for numbers of 16 bits held in FP32."""
    bits = [_ordered(array, precision) for array in (actual, expected)]
    return np.abs(bits[0] - bits[1])


def _ordered(array: Any, precision: Precision) -> Any:
    half = np.float16 if precision is Precision.FP16 else np.dtype("bfloat16")
    whole = array.astype(half).view(np.int16).astype(np.int64)
    return np.where(whole < 0, -32768 - whole, whole)


def test_a_mask_that_overflows_behind_where_is_seen() -> None:
    """Rows that are masked all over are NaN on a GPU; Where used to hide it."""
    lines = "m = ReduceMax <keepdims = 0> (x) n = Sub(m, far) low = Mul(n, far) w = Where(mask, x, low)"
    found = model(
        f"g (float[4,4] x) => (float[4,4] y) {{ {lines} y = Softmax(w) }}",
        far=np.array(1e3, np.float32),
        mask=np.tril(np.ones((4, 4), bool), -1),
    )
    feeds = {"x": np.eye(4, dtype=np.float32)}
    assert np.isfinite(run_model(found, feeds)["y"]).all()
    lowered = lower(found, PrecisionPlan(Precision.FP16))
    assert np.isfinite(run_model(lowered.model, feeds, optimised=True)["y"]).all()
    for outputs in answers(lowered, feeds).values():
        assert np.isnan(outputs["y"][0]).all()


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_FP16])
def test_quantized_models_equal_the_oracle(precision: Precision) -> None:
    weight = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    lines = "[a] h = MatMul(x, w) t = Tile(h, r) s = Slice(t, i, j, i) [b] y = MatMul(s, w)"
    found = model(
        f"g (float[4,4] x) => (float[4,4] y) {{ {lines} }}",
        w=weight, r=np.array([1, 2]), i=np.array([1]), j=np.array([5]),
    )  # fmt: skip
    plan = PrecisionPlan(precision)
    ranges = {name: 4.0 for target in quantizable(found, plan) for name in target.activations}
    lowered = lower(found, plan, ranges)
    with Nodewise(lowered.model) as oracle:
        expected = oracle.run({"x": weight})["y"]
    got = run_model(emulate(lowered), {"x": weight}, settings=SessionSettings(level="none"))["y"]
    np.testing.assert_array_equal(got, expected)


def test_the_forms_hold_every_operator_that_follows_its_producer() -> None:
    text = " ".join((*graphs.MOVES, *graphs.BODIES))
    missing = {name for name in PASS_THROUGH if f"{name}(" not in text and f"{name} <" not in text}
    assert missing == {"TensorScatter"}  # of opset 24


def test_numpy_sees_what_the_runtime_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where, Tile, DepthToSpace and SpaceToDepth left to ONNX Runtime, which has no FP16 kernel for them."""
    every = emulation._is_written_out
    monkeypatch.setattr(emulation, "_is_written_out", lambda node: node.op_type not in MOVED and every(node))
    lost = {form for form in graphs.MOVES if loses(form)}
    assert {form for form in graphs.MOVES if "DepthToSpace" in form} <= lost


def loses(form: str) -> bool:
    """Whether the emulation, and not the oracle, differs from NumPy."""
    lowered = typed(between(form, "float16"), Precision.FP16)
    expected = evaluate(lowered.model, graphs.X)["out_n2_y"]
    found = answers(lowered, graphs.X)
    same = {who: np.array_equal(outputs["out_n2_y"], expected) for who, outputs in found.items()}
    assert same["oracle"]
    return not (same["none"] and same["basic"])
