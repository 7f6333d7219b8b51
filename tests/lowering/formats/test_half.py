"""FP16 and BF16 lowering: which nodes, which names, which types, and why not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from harness.errors import LoweringError, UsageError
from harness.graph.walk import all_nodes, all_values, defects
from harness.lowering.emulation.emulate import emulate
from harness.lowering.formats.half import HalfPass
from harness.lowering.lower import candidates, lower
from harness.lowering.passes.base import run as run_pass
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan
from tests.helpers.lowering import model, mre, node_names, raw, run, tensor_names, types

FP16 = PrecisionPlan(Precision.FP16)
BF16 = PrecisionPlan(Precision.BF16)
RNG = np.random.default_rng(3)
W = RNG.standard_normal((4, 4)).astype(np.float32)
X = {"x": RNG.standard_normal((3, 4)).astype(np.float32)}
MLP = """g (float[N,4] x) => (float[N,4] y) {
  [first] h = MatMul(x, w) [act] r = Relu(h) [second] o = MatMul(r, v) [end] y = Add(o, r)
}"""


def mlp(w=W, v=W):
    return model(MLP, w=w, v=v)


def plan(*nodes: str, types: tuple[str, ...] = ()) -> PrecisionPlan:
    return PrecisionPlan(Precision.FP16, nodes, types)


@pytest.mark.parametrize("chosen", [FP16, BF16], ids=str)
def test_all_nodes_are_lowered_and_all_names_survive(chosen: PrecisionPlan) -> None:
    normalised = mlp()
    lowered = lower(normalised, chosen)
    assert lowered.summary.lowered == ("first", "act", "second", "end")
    assert tensor_names(normalised) <= tensor_names(lowered.model)
    assert set(node_names(normalised)) <= set(node_names(lowered.model))
    assert lowered.summary.casts == 2


def test_types_of_the_lowered_graph() -> None:
    found = types(lower(mlp(), FP16).model)
    assert {found[name] for name in ("x", "y")} == {"FLOAT"}
    assert {found[name] for name in ("w", "v", "h", "r", "o")} == {"FLOAT16"}


def test_the_model_that_was_given_is_untouched() -> None:
    normalised = mlp()
    before = types(normalised), node_names(normalised)
    lower(normalised, FP16)
    assert (types(normalised), node_names(normalised)) == before


def test_a_kept_node_reads_its_producer_in_fp32_not_a_rounded_copy() -> None:
    w = np.array([[1 + 2**-12]], np.float32)
    text = "g (float[1,1] x) => (float[1,1] y) { [a] h = MatMul(x, w) [b] r = Mul(h, w) [c] y = Add(r, r) }"
    lowered = lower(model(text, w=w), plan("a", "b"))
    one = np.ones((1, 1), np.float32)
    assert run(emulate(lowered), {"x": one}, tensors=True)["r"] == w * w
    assert lowered.summary.kept == {"a": "plan", "b": "plan"}


def test_a_weight_that_both_types_use_keeps_its_name_in_fp32() -> None:
    text = "g (float[3,4] x) => (float[3,4] y) { [a] h = MatMul(x, w) [b] y = MatMul(h, w) }"
    found = types(lower(model(text, w=W), plan("b")).model)
    assert found["w"] == "FLOAT"
    assert found["w__f16"] == "FLOAT16"


def test_everything_kept_computes_the_same_bits() -> None:
    lowered = lower(mlp(), plan("*"))
    assert lowered.summary.lowered == ()
    np.testing.assert_array_equal(run(emulate(lowered), X)["y"], run(mlp(), X)["y"])


def test_a_weight_beyond_the_range_keeps_its_node_in_fp32() -> None:
    big = W.copy()
    big[0, 0] = 1e5
    lowered = lower(mlp(v=big), FP16)
    assert lowered.summary.kept == {"second": "weight v overflows FP16"}
    assert lowered.summary.overflow == ("v",)
    assert lower(mlp(v=big), BF16).summary.kept == {}


@pytest.mark.parametrize(("value", "listed"), [(65504, False), (65505, True), (np.inf, False), (-1e38, True)])
def test_overflow_is_about_finite_values_beyond_65504(value: float, listed: bool) -> None:
    weights = W.copy()
    weights[-1, -1] = value
    assert lower(mlp(w=weights), FP16).summary.overflow == (("w",) if listed else ())


def test_a_mask_of_the_lowest_fp32_stays_fp32_in_bf16_too() -> None:
    text = "g (float[4] x) => (float[4] y) { [mask] m = Mul(x, low) [add] y = Add(m, m) }"
    found = model(text, low=np.array(np.finfo(np.float32).min))
    lowered = lower(found, BF16)
    assert lowered.summary.kept == {"mask": "weight low overflows BF16"}
    np.testing.assert_array_equal(run(emulate(lowered), {"x": np.zeros(4, np.float32)})["y"], 0)


def test_weights_that_become_subnormal_are_listed() -> None:
    small = W.copy()
    small[2, 2] = 5e-5
    lowered = lower(mlp(v=small), FP16)
    assert lowered.summary.underflow == ("v",)
    assert "second" in lowered.summary.lowered


def test_pass_through_nodes_follow_their_producers() -> None:
    text = """g (float[3,4] x) => (float[4,3] y, float[4,3] z) {
      [a] h = MatMul(x, w) [t] y = Transpose(h) [b] k = MatMul(h, w) [u] z = Transpose(k) }"""
    lowered = lower(model(text, w=W), plan("a"))
    assert lowered.summary.kept == {"a": "plan", "t": "follows an FP32 producer"}
    assert lowered.summary.lowered == ("b", "u")


def test_a_cache_that_is_an_input_is_updated_in_fp32() -> None:
    """TensorRT takes no other cache than a network input, so that no Cast may stand before it."""
    text = """g (float[1,1,4,2] past, float[1,1,1,2] x) => (float[1,1,4,2] y) {
      [neg] n = Neg(x) [update] y = TensorScatter(past, n) }"""
    lowered = lower(model(text, opset=24), FP16)
    assert lowered.summary.kept == {"update": "follows an FP32 producer"}
    update = next(node for node in lowered.model.graph if node.name == "update")
    assert update.inputs[0] is lowered.model.graph.inputs[0]


def test_pass_through_behind_a_graph_output_follows_the_node_behind_it() -> None:
    text = """g (float[3,4] x) => (float[3,4] h, float[4,3] z) {
      [a] h = MatMul(x, w) [t] u = Transpose(h) [b] z = Relu(u) }"""
    lowered = lower(model(text, w=W), FP16)
    assert lowered.summary.lowered == ("a", "t", "b")
    assert types(lowered.model)["u"] == "FLOAT16"


def test_op_types_of_the_plan() -> None:
    assert lower(mlp(), plan(types=("MatMul",))).summary.lowered == ("act", "end")


def test_patterns_that_match_nothing_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"'nosuch\*', 'Conv'"):
        lower(mlp(), plan("first", "nosuch*", types=("Conv",)))


def test_names_with_brackets_slashes_and_colons() -> None:
    strange = {"x": "in:0", "w": '{"w": [1]}', "h": "/a/b[0]:1", "y": "ä→😀"}
    normalised = mlp()
    for value in list(all_values(normalised)):
        value.name = strange.get(value.name, value.name)
    for node in all_nodes(normalised.graph):
        node.name = f"/layer[0]/{node.name}:0"
    lowered = lower(normalised, plan("/layer[0]/first:0"))
    assert lowered.summary.kept == {"/layer[0]/first:0": "plan"}
    assert set(strange.values()) <= tensor_names(emulate(lowered))
    assert run(emulate(lowered), {"in:0": X["x"]})["ä→😀"].shape == (3, 4)


def test_names_that_casts_would_take_are_free() -> None:
    text = """g (float[3,4] x) => (float[3,4] y) {
      x__f16 = Neg(x) [b] h = MatMul(x, w) [c] y = Add(h, x__f16) }"""
    lowered = lower(model(text, w=W), FP16)
    assert {"x__f16", "x__f16__1"} <= tensor_names(lowered.model)
    assert not defects(lowered.model)


def test_double_and_int16_stay() -> None:
    text = """g (double[4] x, int16[4] k) => (double[4] y, int16[4] m, float[4] z) {
      y = Add(x, x) m = Abs(k) f = Cast <to = 1> (x) z = Mul(f, f) }"""
    found = types(lower(model(text), FP16).model)
    assert (found["y"], found["m"], found["f"]) == ("DOUBLE", "INT16", "FLOAT")


def test_cast_reads_what_comes_and_to_float_stays() -> None:
    text = """g (int64[4] i) => (int64[4] j, float[4] y) {
      [in] f = Cast <to = 1> (i) [half] y = Mul(f, f) [out] j = Cast <to = 7> (f) }"""
    lowered = lower(model(text), FP16)
    assert lowered.summary.kept == {"in": "Cast to FLOAT"}
    assert lowered.summary.lowered == ("half",)
    exact = np.array([1, 2049, 70001, -3], np.int64)
    np.testing.assert_array_equal(run(emulate(lowered), {"i": exact})["j"], exact)


def test_scales_of_resize_stay() -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    text = 'g (float[1,1,2,2] x) => (float[1,1,4,4] y) { y = Resize <mode = "linear"> (x, , s) }'
    lowered = lower(model(text, s=scales), FP16)
    assert types(lowered.model)["s"] == "FLOAT"
    assert len(lowered.summary.lowered) == 1


def test_operators_without_fp16_stay() -> None:
    text = """g (float a, float b, float c) => (float[M] y) { [r] t = Range(a, b, c) [m] y = Mul(t, t) }"""
    lowered = lower(model(text), FP16)
    assert lowered.summary.kept == {"r": "schema: Range takes no FP16"}
    scalars = {name: np.array(value, np.float32) for name, value in (("a", 0), ("b", 4), ("c", 1))}
    np.testing.assert_array_equal(run(emulate(lowered), scalars)["y"], [0, 1, 4, 9])


@pytest.mark.parametrize("lengths", [True, False])
def test_gru_with_sequence_lens_stays(lengths: bool) -> None:
    weights = {"w": np.ones((1, 6, 3), np.float32), "r": np.ones((1, 6, 2), np.float32)}
    text = f"""g (float[5,1,3] x, int32[1] n) => (float[1,1,2] y) {{
      [rnn] every, y = GRU <hidden_size = 2> (x, w, r, , {"n" if lengths else ""}) }}"""
    lowered = lower(model(text, **weights), FP16)
    assert lowered.summary.kept == ({"rnn": "GRU with sequence_lens"} if lengths else {})


def test_custom_domains_stay_and_what_follows_them_too() -> None:
    text = """g (float[3,4] x) => (float[3,4] y) {
      [a] h = MatMul(x, w) [c] t = custom.Odd(h) [b] y = Add(t, t) }"""
    lowered = lower(model(text, w=W), FP16)
    assert lowered.summary.kept == {
        "c": "custom domain custom",
        "b": "a sequence or a tensor of unknown type",
    }
    assert types(lowered.model)["h"] == "FLOAT16"


def test_sequences_stay() -> None:
    text = """g (float[3,4] x, int64 i) => (float[3,4] y) {
      [a] h = Relu(x) [s] q = SequenceConstruct(h, h) [t] z = SequenceAt(q, i) [b] y = Add(z, z) }"""
    lowered = lower(model(text), FP16)
    assert set(lowered.summary.kept) == {"s", "t"}
    assert lowered.summary.lowered == ("a", "b")
    out = run(emulate(lowered), {"x": X["x"], "i": np.array(0)})["y"]
    assert mre(out, 2 * np.maximum(X["x"], 0)) < 1e-3


def test_parts_that_are_fp16_already_stay() -> None:
    text = """g (float16[3,4] x, float[3,4] z) => (float16[3,4] y, float[3,4] u) {
      [a] y = Relu(x) [b] u = Relu(z) }"""
    assert lower(model(text), FP16).summary.lowered == ("b",)
    assert lower(model(text), BF16).summary.lowered == ("b",)


MAKERS = {
    "EyeLike": (19, "c = EyeLike <dtype = 10> (s)", np.eye(2)),
    "ConstantOfShape": (19, "n = Size(s) m = Reshape(n, one) c = ConstantOfShape (m)", [1.5, 1.5, 1.5, 1.5]),
    "DequantizeLinear": (23, "c = DequantizeLinear <output_dtype = 10> (q, k)", [0.5, 1.0]),
}


@pytest.mark.parametrize("op_type", MAKERS)
def test_attributes_that_say_fp16_are_emulated(op_type: str) -> None:
    opset, made, expected = MAKERS[op_type]
    text = f"g (int64[2,2] s, float[3,4] x) => (float16 y, float[3,4] z) {{ {made} y = Abs(c) z = Neg(x) }}"
    weights = {"q": np.array([1, 2], np.int8), "k": np.array(0.5, np.float32), "one": np.array([1])}
    found = raw(text, opset, **weights)
    if op_type == "ConstantOfShape":
        half = ir.AttrTensor("value", ir.Tensor(np.array([1.5], np.float16)))
        next(node for node in found.graph if node.op_type == op_type).attributes["value"] = half
    emulated = emulate(lower(normalise(found), FP16))
    actual = run(emulated, {**X, "s": np.zeros((2, 2), np.int64)})["y"]
    assert actual.dtype == np.float16
    np.testing.assert_array_equal(actual, expected)


def test_an_initializer_that_is_an_input_is_a_constant() -> None:
    text = "g (float[3,4] x, float[4,4] w) => (float[3,4] y) { y = MatMul(x, w) }"
    lowered = lower(model(text, w=W), FP16)
    assert [value.name for value in lowered.model.graph.inputs] == ["x"]
    assert types(lowered.model)["w"] == "FLOAT16"


def test_empty_optional_inputs_stay_empty() -> None:
    text = "g (float[3,4] x) => (float[3,4] y) { t = Relu(x) y = Clip(t, , hi) }"
    lowered = lower(model(text, hi=np.array(0.5, np.float32)), FP16)
    clip = next(node for node in lowered.model.graph if node.op_type == "Clip")
    assert clip.inputs[1] is None
    assert run(emulate(lowered), X)["y"].max() == 0.5


BRANCHES = """g (float[3,4] x, bool c) => (float[3,4] y) {
  [a] h = Relu(x)
  [if] y = If (c) <
    then_branch = t () => (float[3,4] p) { [mm] p = MatMul(h, w) },
    else_branch = e () => (float[3,4] q) { [id] q = Identity(h) } >
}"""


@pytest.mark.parametrize("chosen", [FP16, BF16], ids=str)
def test_subgraphs_are_lowered_and_keep_their_face(chosen: PrecisionPlan) -> None:
    normalised = model(BRANCHES, w=W)
    lowered = lower(normalised, chosen)
    assert {"a", "mm", "id"} <= set(lowered.summary.lowered)
    assert (types(lowered.model)["p"], types(lowered.model)["q"]) == ("FLOAT", "FLOAT")
    for side in (True, False):
        feeds = {**X, "c": np.array(side)}
        error = mre(run(emulate(lowered), feeds)["y"], run(normalised, feeds)["y"])
        assert 0 < error < 1e-2


def test_a_kept_if_keeps_its_branches() -> None:
    assert lower(model(BRANCHES, w=W), plan("if")).summary.kept == {"mm": "plan", "id": "plan"}


LOOP = """g (float[4] x, int64 n) => (float[4] y) {
  [l] y = Loop (n, , x) <body = b (int64 i, bool go, float[4] s) => (bool on, float[4] t) {
    on = Identity(go) [mul] t = Mul(s, k) }>
}"""


def test_loops_carry_fp32_and_compute_fp16() -> None:
    weights = {"k": np.array([1.1, 0.9, 2, 0.5], np.float32)}
    lowered = lower(model(LOOP, **weights), FP16)
    assert lowered.summary.lowered == ("mul",)
    feeds = {"x": np.ones(4, np.float32), "n": np.array(3)}
    error = mre(run(emulate(lowered), feeds)["y"], run(model(LOOP, **weights), feeds)["y"])
    assert 1e-5 < error < 5e-3


MIXED_IF = """g (float[4] x, bool c) => (float[4] y, int64[1] n) {
  y, n = If (c) <
    then_branch = t () => (float[4] p, int64[1] q) { [mul] p = Mul(x, k) q = Shape(x) },
    else_branch = e () => (float[4] r, int64[1] s) { r = Neg(x) s = Shape(x) } >
}"""
MIXED_LOOP = """g (float[4] x, int64 m) => (float[4] y, int64 n) {
  y, n = Loop (m, , x, m) <
    body = b (int64 i, bool go, float[4] s, int64 j) => (bool on, float[4] t, int64 o) {
    on = Identity(go) [mul] t = Mul(s, k) o = Add(j, i) }>
}"""


@pytest.mark.parametrize("text", [MIXED_IF, MIXED_LOOP], ids=["If", "Loop"])
def test_control_flow_may_carry_tensors_of_several_types(text: str) -> None:
    lowered = lower(model(text, k=np.array([1.1, 0.9, 2, 0.5], np.float32)), FP16)
    assert "mul" in lowered.summary.lowered
    assert (types(lowered.model)["y"], types(lowered.model)["n"]) == ("FLOAT", "INT64")


def test_a_node_that_reads_bits_stays() -> None:
    text = "g (float[3,4] x) => (int32[3,4] y) { h = Neg(x) [bits] y = BitCast <to = 6> (h) }"
    lowered = lower(model(text, opset=26), FP16)
    assert set(lowered.summary.kept) == {"bits"}
    assert types(lowered.model)["y"] == "INT32"


SCAN = """g (float[4] s, float[3,4] x) => (float[4] y, float[3,4] z) {
  y, z = Scan <num_scan_inputs = 1, body = b (float[4] a, float[4] e) => (float[4] t, float[4] o) {
    [add] t = Add(a, e) [tanh] o = Tanh(t) }> (s, x) }"""


@pytest.mark.parametrize("chosen", [FP16, BF16], ids=str)
def test_a_scan_stays_with_its_body(chosen: PrecisionPlan) -> None:
    reason = f"TensorRT takes no Scan in {str(chosen.precision).upper()}"
    assert lower(model(SCAN), chosen).summary.kept == {"add": reason, "tanh": reason}
    assert candidates(model(SCAN), chosen.precision) == ()


def test_candidates_are_what_a_plan_decides() -> None:
    text = """g (float[3,4] x) => (float[4,3] y) {
      [a] h = MatMul(x, w) [t] k = Transpose(h) [big] m = Mul(k, b) [z] y = Relu(m) }"""
    found = model(text, w=W, b=np.array(1e6, np.float32))
    assert candidates(found, Precision.FP16) == ("a", "z")
    assert candidates(found, Precision.BF16) == ("a", "big", "z")
    assert candidates(found, Precision.FP32) == ()


def test_bf16_lowers_convolutions() -> None:
    weights = {"w": np.ones((1, 1, 3, 3), np.float32)}
    found = model("g (float[1,1,5,5] x) => (float[1,1,3,3] y) { [c] y = Conv(x, w) }", **weights)
    lowered = lower(found, BF16)
    assert lowered.summary.lowered == ("c",)
    feeds = {"x": RNG.random((1, 1, 5, 5)).astype(np.float32)}
    assert 1e-5 < mre(run(emulate(lowered), feeds)["y"], run(found, feeds)["y"]) < 8e-3


def test_fp32_and_tf32_change_nothing() -> None:
    found = mlp()
    for precision in (Precision.FP32, Precision.TF32):
        lowered = lower(found, PrecisionPlan(precision))
        assert lowered.model is found
        assert emulate(lowered) is found


def test_a_pass_that_loses_a_node_is_caught() -> None:
    class Loses(HalfPass):
        def apply(self, model):
            summary = super().apply(model)
            model.graph.node("first").name = "other"
            return summary

    with pytest.raises(LoweringError, match="broke its promise: lost 1 nodes, such as 'first'"):
        run_pass(Loses(FP16, ir.DataType.FLOAT16), mlp())
