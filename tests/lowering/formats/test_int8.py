"""INT8 lowering: where Q/DQ goes, with which scales, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import LoweringError, ModelError
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import candidates, lower, quantizable
from harness.lowering.refusals import tensorrt_refusals
from harness.precision import Precision, PrecisionPlan
from tests.helpers.lowering import model, mre, node_names, run, tensor_names, to_proto, types

INT8 = PrecisionPlan(Precision.INT8)
INT8_FP16 = PrecisionPlan(Precision.INT8_FP16)
RNG = np.random.default_rng(5)
W = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
M = RNG.standard_normal((4, 5)).astype(np.float32)
X = {"x": RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)}
CNN = """g (float[2,3,8,8] x) => (float[2,5] y) {
  [conv] c = Conv <pads = [1, 1, 1, 1]> (x, w, b) [relu] r = Relu(c)
  [pool] p = GlobalAveragePool(r) [flat] f = Flatten(p) [fc] y = Gemm(f, m)
}"""
RANGES = {"x": 4.0, "f": 3.0}


def cnn(w=W):
    return model(CNN, w=w, m=M, b=np.ones(4, np.float32))


def initializer(lowered, name: str) -> np.ndarray:
    return lowered.model.graph.initializers[name].const_value.numpy()


def test_weighted_nodes_and_their_activations() -> None:
    found = quantizable(cnn(), INT8)
    assert [(q.node, q.op_type, q.activations) for q in found] == [
        ("conv", "Conv", ("x",)), ("fc", "Gemm", ("f",)),
    ]  # fmt: skip
    assert candidates(cnn(), Precision.INT8) == ("conv", "fc")
    assert candidates(cnn(), Precision.INT8_FP16) == ("conv", "relu", "pool", "fc")


def test_names_survive_and_results_are_near() -> None:
    normalised = cnn()
    lowered = lower(normalised, INT8, RANGES)
    assert tensor_names(normalised) <= tensor_names(lowered.model)
    assert set(node_names(normalised)) <= set(node_names(lowered.model))
    assert lowered.summary.quantized == ("conv", "fc")
    error = mre(run(emulate(lowered), X)["y"], run(normalised, X)["y"])
    assert 1e-4 < error < 5e-2


def test_scales_are_symmetric_per_tensor_and_per_output_channel() -> None:
    lowered = lower(cnn(), INT8, RANGES)
    np.testing.assert_allclose(initializer(lowered, "x__q8/scale"), 4 / 127, rtol=1e-6)
    np.testing.assert_allclose(initializer(lowered, "w__q8/scale"), np.abs(W).max((1, 2, 3)) / 127, rtol=1e-6)
    np.testing.assert_allclose(initializer(lowered, "m__q8/scale"), np.abs(M).max(0) / 127, rtol=1e-6)
    for name in ("x", "w", "m"):
        zero = initializer(lowered, f"{name}__q8/zero")
        assert zero.dtype == np.int8
        assert not zero.any()


def test_the_bias_stays_in_float() -> None:
    conv = lower(cnn(), INT8, RANGES).model.graph.node("conv")
    assert conv.inputs[2].name == "b"


def test_a_dead_channel_has_scale_one() -> None:
    dead = W.copy()
    dead[2] = 0
    assert initializer(lower(cnn(dead), INT8, RANGES), "w__q8/scale")[2] == 1


def test_a_range_of_zero_has_scale_one() -> None:
    assert initializer(lower(cnn(), INT8, {**RANGES, "x": 0.0}), "x__q8/scale") == 1


@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -1.0])
def test_a_range_that_is_missing_or_none_is_named(bad: float | None) -> None:
    ranges = {"x": 4.0} if bad is None else {"x": 4.0, "f": bad}
    with pytest.raises(LoweringError, match="'f'"):
        lower(cnn(), INT8, ranges)


def test_weights_that_are_not_finite_are_refused() -> None:
    broken = W.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="weight 'w' has NaN"):
        lower(cnn(broken), INT8, RANGES)


def test_kept_nodes_are_not_quantized() -> None:
    lowered = lower(cnn(), PrecisionPlan(Precision.INT8, ("conv",)), {"f": 3.0})
    assert lowered.summary.quantized == ("fc",)
    assert lowered.summary.kept == {"conv": "plan"}


def test_one_pair_serves_all_users_of_a_tensor() -> None:
    text = (
        "g (float[3,4] x) => (float[3,5] y) { [a] h = MatMul(x, m) [b] k = MatMul(x, m) [c] y = Add(h, k) }"
    )
    lowered = lower(model(text, m=M), INT8, {"x": 2.0})
    assert [node.op_type for node in lowered.model.graph].count("QuantizeLinear") == 2


@pytest.mark.parametrize(
    ("text", "weight", "scale"),
    [
        ("y = ConvTranspose(x, w)", (3, 2, 3, 3), (2,)),
        ("y = ConvTranspose <group = 3> (x, w)", (3, 2, 3, 3), ()),
        ("y = MatMul(x, w)", (8, 6), (6,)),
        ("y = MatMul(x, w)", (2, 3, 8, 6), ()),
        ("t = Flatten <axis = 3> (x) y = Gemm(t, w)", (8, 6), (6,)),
        ("t = Flatten <axis = 3> (x) y = Gemm <transB = 1> (t, w)", (6, 8), (6,)),
        ("y = Conv <group = 3> (x, w)", (6, 1, 3, 3), (6,)),
    ],
)
def test_the_channel_axis_of_each_operator(
    text: str, weight: tuple[int, ...], scale: tuple[int, ...]
) -> None:
    weights = {"w": RNG.standard_normal(weight).astype(np.float32)}
    shape = "A,B" if "Gemm" in text else "A,B,C,D"
    found = model(f"g (float[2,3,8,8] x) => (float[{shape}] y) {{ {text} }}", **weights)
    ranges = {q.activations[0]: 4.0 for q in quantizable(found, INT8)}
    lowered = lower(found, INT8, ranges)
    assert initializer(lowered, "w__q8/scale").shape == scale
    assert mre(run(lowered.model, X)["y"], run(found, X)["y"]) < 5e-2


def test_what_is_not_quantized_says_why() -> None:
    text = """g (float[4,4] x, float[4,4] z, bool c) => (float[4,4] y, float[4,4] u, float[4,4] v) {
      [both] y = MatMul(x, z) [left] u = MatMul(w, x)
      [if] v = If (c) <
        then_branch = t () => (float[4,4] p) { [in] p = MatMul(x, w) },
        else_branch = e () => (float[4,4] q) { q = Identity(x) } > }"""
    lowered = lower(model(text, w=np.eye(4, dtype=np.float32)), INT8)
    assert lowered.summary.quantized == ()
    assert lowered.summary.kept == {
        "both": "its second input is not a weight, or its first is",
        "left": "its second input is not a weight, or its first is",
        "in": "inside a subgraph: its tensors cannot be calibrated",
    }


def test_int8_and_fp16_together() -> None:
    lowered = lower(cnn(), INT8_FP16, RANGES)
    found = types(lowered.model)
    assert lowered.summary.quantized == ("conv", "fc")
    assert lowered.summary.lowered == ("conv", "relu", "pool", "flat", "fc")
    assert (found["x__q8/q"], found["c"], found["w__q8/scale"], found["m"]) == (
        "INT8",
        "FLOAT16",
        "FLOAT16",
        "FLOAT16",
    )
    error = mre(run(emulate(lowered), X)["y"], run(cnn(), X)["y"])
    assert 1e-4 < error < 5e-2


def test_scales_beside_fp16_are_normal_fp16_numbers() -> None:
    tiny = W * np.float32(1e-6)
    lowered = lower(cnn(tiny), INT8_FP16, RANGES)
    scales = initializer(lowered, "w__q8/scale")
    assert scales.dtype == np.float16
    assert scales.min() >= 2.0**-14
    alone = initializer(lower(cnn(tiny), INT8, RANGES), "w__q8/scale")
    np.testing.assert_allclose(alone, np.abs(tiny).max((1, 2, 3)) / 127, rtol=1e-6)


QAT = """g (float[3,4] x) => (float[3,5] y) {
  xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z)
  mq = QuantizeLinear(m, s, z) md = DequantizeLinear(mq, s, z)
  [mm] h = MatMul(xd, md) [act] y = Relu(h)
}"""


def qat(zero: np.ndarray, **more):
    return model(QAT, m=M, s=np.array(0.05, np.float32), z=zero, **more)


def test_quantization_that_a_model_brings_along_is_taken_as_it_is() -> None:
    found = qat(np.array(0, np.int8))
    assert quantizable(found, INT8) == ()
    lowered = lower(found, INT8)
    assert lowered.summary.quantized == ("mm",)
    assert to_proto(lowered.model).graph.node == to_proto(found).graph.node
    mixed = lower(found, INT8_FP16)
    assert {"mm", "act"} <= set(mixed.summary.lowered)
    feeds = {"x": RNG.standard_normal((3, 4)).astype(np.float32)}
    assert mre(run(emulate(mixed), feeds)["y"], run(found, feeds)["y"]) < 1e-2


@pytest.mark.parametrize(
    ("zero", "message"),
    [(np.array(3, np.int8), "a zero point other than 0"), (np.array(0, np.uint8), "codes of type UINT8")],
)
def test_quantization_that_tensorrt_refuses_is_refused(zero: np.ndarray, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        lower(qat(zero), INT8)
    assert lower(qat(zero), PrecisionPlan(Precision.FP32)).model is not None


def test_dynamic_quantization_is_refused() -> None:
    text = """g (float[3,4] x) => (uint8[3,4] y, float s, uint8 z) {
      [dyn] y, s, z = DynamicQuantizeLinear(x) }"""
    with pytest.raises(ModelError, match=r"node 'dyn': dynamic quantization \(DynamicQuantizeLinear\)"):
        lower(model(text), INT8)


NESTED = """g (bool c, bool d, float[4] x) => (float[4] y) {
  k = %s
  [outer] y = If (k) <
    then_branch = t () => (float[4] p) { [inner] p = If (d) <
      then_branch = tt () => (float[4] pp) { pp = Identity(x) },
      else_branch = te () => (float[4] pq) { pq = Neg(x) } > },
    else_branch = e () => (float[4] q) { q = Abs(x) } >
}"""
ENDLESS = """g (float[4] x, bool go, int64 n) => (float[4] y) {
  [l] y = Loop (%s, go, x) <body = b (int64 i, bool g1, float[4] s) => (bool on, float[4] t) {
    on = Identity(g1) t = Neg(s) }>
}"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "g (float[4] x) => (float[4] y) { y = custom.Odd(x) }",
            ["node 'Odd_y': Odd of domain 'custom' needs a plugin"],
        ),
        (
            "g (float[4] x) => (float[4] y, int64[4] i) { [u] y, i = Unique(x) }",
            ["node 'u': TensorRT has no Unique"],
        ),
        (NESTED % "Not(c)", ["node 'inner': an If in an If that a graph input decides"]),
        (ENDLESS % "", ["node 'l': a Loop without a trip limit"]),
        (ENDLESS % "n", []),
        (CNN, []),
    ],
    ids=["custom", "unknown", "nested", "endless", "limited", "fine"],
)
def test_what_tensorrt_would_refuse(text: str, expected: list[str]) -> None:
    weights = {"w": W, "m": M, "b": np.ones(4, np.float32)} if "Conv" in text else {}
    assert tensorrt_refusals(model(text, **weights)) == expected


def test_a_plugin_lifts_the_refusal_of_its_domain() -> None:
    found = model("g (float[4] x) => (float[4] y) { y = custom.Odd(x) }")
    assert tensorrt_refusals(found, frozenset({"custom"})) == []


def test_a_quantized_weight_beyond_fp16_keeps_its_node_and_its_q_dq_in_fp32() -> None:
    weight = np.diag([2e5, 1.0, 1.0, 1.0]).astype(np.float32)
    found = model("g (float[N,4] x) => (float[N,4] y) { [m] a = MatMul(x, w) [t] y = Tanh(a) }", w=weight)
    lowered = lower(found, PrecisionPlan(Precision.INT8_FP16), {"x": 1.0})
    assert lowered.summary.kept == {"m": "weight w overflows FP16"}
    assert lowered.summary.quantized == ("m",)
    x = {"x": np.eye(4, dtype=np.float32)}
    np.testing.assert_allclose(run(emulate(lowered), x)["y"], run(found, x)["y"], rtol=2e-3)
