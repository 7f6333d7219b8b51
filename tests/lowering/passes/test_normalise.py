"""Normalising: opsets, names, constants, functions, dimensions; results stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from harness.errors import ModelError
from harness.graph.walk import all_nodes, all_values, defects
from harness.lowering.passes.convert import at_opset, opset_of
from harness.lowering.passes.normalise import normalise
from tests.helpers.lowering import model, node_names, proto, raw, run, tensor_names, types

RNG = np.random.default_rng(11)
X = {"x": RNG.standard_normal((2, 3, 4, 4)).astype(np.float32)}
OLD = """g (float[2,3,4,4] x) => (float[2,6] y) {
  [up] u = Upsample <mode = "nearest"> (x, s)
  [clip] c = Clip <min = -1.0, max = 1.0> (u)
  [sum] r = ReduceSum <axes = [2, 3], keepdims = 0> (c)
  [fc] y = MatMul(r, w)
}"""
WEIGHTS = {"s": np.array([1, 1, 2, 2], np.float32), "w": RNG.standard_normal((3, 6)).astype(np.float32)}


def test_old_opsets_are_converted_and_compute_the_same() -> None:
    old = raw(OLD, 9, **WEIGHTS)
    new = normalise(old)
    assert opset_of(new) == 19
    assert tensor_names(old) <= tensor_names(new)
    assert set(node_names(old)) <= set(node_names(new))
    np.testing.assert_array_equal(run(new, X)["y"], run(old, X)["y"])
    assert opset_of(old) == 9


def test_weights_are_shared_not_copied() -> None:
    big = RNG.standard_normal((64, 64)).astype(np.float32)
    old = raw("g (float[2,64] x) => (float[2,64] y) { y = MatMul(x, w) }", 11, w=big)
    new = normalise(old)
    assert new.graph.initializers["w"].const_value is old.graph.initializers["w"].const_value


def test_weights_in_subgraphs_are_shared_through_conversion() -> None:
    text = """g (float[2,64] x, bool c) => (float[2,64] y) {
      y = If (c) <
        then_branch = t () => (float[2,64] p) <float[64,64] w> { p = MatMul(x, w) },
        else_branch = e () => (float[2,64] q) { q = Identity(x) } > }"""
    parsed = proto(text, 11)
    branch = next(a.g for a in parsed.graph.node[0].attribute if a.name == "then_branch")
    del branch.initializer[:]
    branch.initializer.append(onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32), "w"))
    old = ir.serde.deserialize_model(parsed)
    new = normalise(old)
    find = lambda found: next(v.const_value for v in all_values(found) if v.name == "w")  # noqa: E731
    assert find(new) is find(old)


def test_new_opsets_are_not_converted() -> None:
    assert opset_of(normalise(raw("g (float[4] x) => (float[4] y) { y = Neg(x) }", 22))) == 22


def test_replaced_nodes_in_a_row_keep_their_names() -> None:
    text = """g (float[2,3,4,4] x) => (float[2,3,16,16] y) {
      [a] t = Upsample <mode = "linear"> (x, s) [b] u = Upsample <mode = "linear"> (t, s) [c] y = Neg(u) }"""
    new = normalise(raw(text, 9, s=WEIGHTS["s"]))
    assert node_names(new) == ["a", "b", "c"]
    assert {"t", "u"} <= tensor_names(new)


@pytest.mark.parametrize(
    ("opset", "body", "scales"),
    [
        (9, 'Upsample <mode = "linear"> (x, s)', [1, 1, 2, 2]),
        (9, 'Upsample <mode = "nearest"> (x, s)', [1, 1, 3, 1.5]),
        (10, 'Resize <mode = "linear"> (x, s)', [1, 1, 1.7, 0.6]),
        (10, 'Resize <mode = "nearest"> (x, s)', [1, 1, 0.6, 0.6]),
        (11, "Softmax(x)", None),
        (11, "LogSoftmax <axis = 2> (x)", None),
        (9, "Slice <axes = [1, 2], starts = [0, 1], ends = [2, 3]> (x)", None),
        (10, "Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1]> (x)", None),
        (10, "Clip <min = -0.5> (x)", None),
        (8, "Dropout <ratio = 0.3> (x)", None),
        (11, "ReduceL2 <axes = [-1]> (x)", None),
    ],
)
def test_converted_operators_compute_the_same(opset: int, body: str, scales: list[float] | None) -> None:
    parsed = proto(f"g (float[2,3,4,4] x) => (float[A,B,C,D] y) {{ [op] y = {body} }}", opset)
    if scales is not None:
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(np.array(scales, np.float32), "s"))
    old = ir.serde.deserialize_model(parsed)
    np.testing.assert_array_equal(run(normalise(old), X)["y"], run(old, X)["y"])


@pytest.mark.parametrize(
    ("opset", "body", "message"),
    [
        (11, "[h] y = Hardmax(x)", "opset 11 to 19: Hardmax 'h' would change"),
        (15, "y = GridSample(x, x)", "opset 15 cannot be converted to 19: .*GridSample"),
    ],
)
def test_what_cannot_be_converted_says_why(opset: int, body: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        normalise(raw(f"g (float[2,3,4,4] x) => (float[2,3,4,4] y) {{ {body} }}", opset))


def test_constants_become_initializers_but_for_graph_outputs() -> None:
    text = """g (float[2] x) => (float[2] y, int64[1] k) {
      c = Constant <value = float[2] {1, 2}> ()
      f = Constant <value_float = 0.5> ()
      i = Constant <value_ints = [0]> ()
      k = Constant <value = int64[1] {7}> ()
      t = Add(x, c) u = Mul(t, f) y = Gather(u, i) }"""
    found = normalise(raw(text.replace("float[2] y", "float[1] y")))
    assert set(found.graph.initializers) == {"c", "f", "i"}
    assert [node.op_type for node in found.graph] == ["Constant", "Add", "Mul", "Gather"]
    out = run(found, {"x": np.array([1, 1], np.float32)})
    assert (out["y"].tolist(), out["k"].tolist()) == ([1.0], [7])


def test_node_names_are_unique_over_subgraphs_and_the_first_keeps_its_own() -> None:
    text = """g (float[4] x, bool c) => (float[4] y) {
      [n] h = Neg(x) [n] k = Abs(h)
      [if] y = If (c) <
        then_branch = t () => (float[4] p) { [n] p = Identity(k) },
        else_branch = e () => (float[4] q) { [m] q = Neg(k) } > }"""
    assert node_names(normalise(raw(text))) == ["n", "n__1", "if", "n__2", "m"]


def test_names_are_deterministic() -> None:
    parsed = proto("g (float[4] x) => (float[4] y) { h = Neg(x) k = Neg(h) y = Abs(k) }")
    names = {tuple(node_names(normalise(ir.serde.deserialize_model(parsed)))) for _ in range(3)}
    assert len(names) == 1


def test_local_functions_are_inlined() -> None:
    function = """<domain: "local", opset_import: ["" : 19]> twice (a) => (b) { t = Neg(a) b = Mul(t, t) }"""
    parsed = proto("g (float[4] x) => (float[4] y) { h = local.twice(x) y = local.twice(h) }", 19, function)
    found = normalise(ir.serde.deserialize_model(parsed))
    assert [node.op_type for node in found.graph] == ["Neg", "Mul", "Neg", "Mul"]
    assert not defects(found)
    assert run(found, {"x": np.full(4, 2, np.float32)})["y"].tolist() == [16.0] * 4


def test_recursive_functions_are_refused() -> None:
    function = """<domain: "local", opset_import: ["" : 19, "local" : 1]> f (a) => (b) { b = local.f(a) }"""
    parsed = proto("g (float[4] x) => (float[4] y) { y = local.f(x) }", 19, function)
    with pytest.raises(ModelError, match=r"local functions cannot be inlined: .*[Cc]ycl"):
        normalise(ir.serde.deserialize_model(parsed))


def test_dimensions_that_name_nothing_or_two_axes() -> None:
    parsed = proto("g (float[N,4] x, float[S,S] z) => (float[N,4] y, float[S,S] u) { y = Neg(x) u = Neg(z) }")
    parsed.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "?"
    found = normalise(ir.serde.deserialize_model(parsed))
    dims = {value.name: [str(dim) for dim in value.shape] for value in found.graph.inputs}
    assert dims == {"x": ["N", "x_d1"], "z": ["z_d0", "z_d1"]}


@pytest.mark.parametrize("version", [3, 8, 10, 12])
def test_ir_version(version: int) -> None:
    parsed = proto("g (float[4] x) => (float[4] y) { y = Neg(x) }")
    parsed.ir_version = version
    found = normalise(ir.serde.deserialize_model(parsed)).ir_version
    assert found == min(max(version, 8), 10)


def test_every_tensor_is_typed() -> None:
    text = """g (float[2,4] x) => (float[2] y) {
      m = ArgMax <axis = 1, keepdims = 0> (x) k = Shape(x) y = Cast <to = 1> (m) }"""
    assert types(model(text)) == {"x": "FLOAT", "m": "INT64", "k": "INT64", "y": "FLOAT"}


@pytest.mark.parametrize("opset", [13, 19])
def test_the_size_of_an_output_that_an_exporter_saw_once_is_not_believed(opset: int) -> None:
    text = """g (float[1,N,2] x) => (float[1,3] s, float[1,1,2] y) {
      h = ReduceSum <keepdims = 0> (x, two) s = Softmax(h) u = Unsqueeze(s, one) y = MatMul(u, x) }"""
    axes = {"one": np.array([1]), "two": np.array([2])}
    old = raw(text, opset, **axes)
    new = normalise(old)
    sizes = {value.name: value.shape for value in all_values(new)}
    assert 3 not in [*sizes["s"], *sizes["u"]]
    assert sizes["y"] == [1, 1, 2]
    assert old.graph.outputs[0].shape == [1, 3]
    new.graph.inputs[0].shape = ir.Shape([1, 5, 2])
    x = {"x": RNG.standard_normal((1, 5, 2)).astype(np.float32)}
    np.testing.assert_allclose(run(new, x)["s"].sum(), 1, rtol=1e-6)


def test_what_follows_a_group_normalization_is_typed_and_sized() -> None:
    text = """g (float[N,8,6] x) => (float[N,8,6] y) {
      a = GroupNormalization <num_groups = 4> (x, s, s) b = Relu(a) y = Mul(b, b) }"""
    found = model(text, 21, s=np.ones(8, np.float32))
    assert {types(found)[name] for name in "aby"} == {"FLOAT"}
    assert next(n for n in found.graph if n.op_type == "GroupNormalization").outputs[0].shape == ("N", 8, 6)


def test_the_source_is_untouched() -> None:
    old = raw(OLD, 9, **WEIGHTS)
    before = old.graph.opset_imports.copy(), node_names(old), types(old), old.ir_version
    normalise(old)
    assert (old.graph.opset_imports, node_names(old), types(old), old.ir_version) == before


def test_a_group_normalization_that_scales_groups_is_refused_where_it_would_scale_channels() -> None:
    text = "g (float[N,8,6] x) => (float[N,8,6] y) { [n] y = GroupNormalization <num_groups = 4> (x, s, s) }"
    found = model(text, 18, s=np.ones(4, np.float32))
    assert opset_of(found) == 19
    with pytest.raises(ModelError, match="opset 19 to 22: GroupNormalization 'n' would change"):
        at_opset(found, 22)


def test_going_to_a_higher_opset_keeps_names() -> None:
    found = model(
        "g (float[2,3,4,4] x) => (float[2,3,2,2] y) { [p] y = MaxPool <kernel_shape = [3, 3]> (x) }"
    )
    higher = at_opset(found, 22)
    assert (opset_of(higher), node_names(higher)) == (22, ["p"])
    assert len(list(all_nodes(higher.graph))) == 1
