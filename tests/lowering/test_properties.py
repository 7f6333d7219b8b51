"""Properties of lowering over random graphs: names, faces, bits."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.graph.walk import defects
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import candidates, lower, quantizable
from harness.lowering.passes.contract import Contract
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan
from tests.helpers.lowering import model, node_names, raw, run

SIZE = 3
BINARY = ("Add", "Mul", "Sub", "MatMul", "Max")
UNARY = ("Relu", "Neg", "Tanh", "Transpose", "Identity", "Sigmoid", "Softmax")
WEIGHTS = {
    "w0": np.linspace(-1, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE),
    "w1": np.full((SIZE, SIZE), 1e-6, np.float32),
    "w2": np.full((SIZE, SIZE), 7e4, np.float32),
}
X = {"x": np.arange(SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE) / 7}
HALVES = st.sampled_from([Precision.FP16, Precision.BF16, Precision.INT8_FP16])


@st.composite
def graphs(draw: st.DrawFn) -> ir.Model:
    """A normalised graph of square matrices: shared tensors and weights, outputs read again, Ifs."""
    made, lines = ["x"], []
    for index in range(draw(st.integers(1, 7))):
        name = f"t{index}"
        tensor = st.sampled_from(made)
        if draw(st.booleans()):
            right = draw(st.sampled_from([*made, *WEIGHTS]))
            lines.append(f"[n{index}] {name} = {draw(st.sampled_from(BINARY))} ({draw(tensor)}, {right})")
        elif draw(st.integers(0, 4)):
            lines.append(f"[n{index}] {name} = {draw(st.sampled_from(UNARY))} ({draw(tensor)})")
        else:
            left, right = draw(tensor), draw(tensor)
            lines.append(branches(index, name, left, right))
        made.append(name)
    outputs = {made[-1], *draw(st.lists(st.sampled_from(made[1:]), max_size=2))}
    ends = ", ".join(f"float[{SIZE},{SIZE}] {name}" for name in sorted(outputs))
    body = "\n".join(["c = Constant <value = bool {1}> ()", *lines])
    return model(f"g (float[{SIZE},{SIZE}] x) => ({ends}) {{ {body} }}", **WEIGHTS)


def branches(index: int, name: str, left: str, right: str) -> str:
    face = f"float[{SIZE},{SIZE}]"
    return f"""[n{index}] {name} = If (c) <
      then_branch = a{index} () => ({face} p{index}) {{ [m{index}] p{index} = MatMul({left}, w0) }},
      else_branch = b{index} () => ({face} q{index}) {{ [k{index}] q{index} = Neg({right}) }} >"""


def ranges(found: ir.Model, plan: PrecisionPlan) -> dict[str, float]:
    return {name: 2.0 for target in quantizable(found, plan) for name in target.activations}


@given(graphs(), HALVES, st.data())
@settings(max_examples=60, deadline=None)
def test_names_and_faces_survive_any_plan(found: ir.Model, precision: Precision, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(node_names(found)), max_size=3, unique=True))
    plan = PrecisionPlan(precision, tuple(kept))
    contract = Contract.of(found)
    lowered = lower(found, plan, ranges(found, plan))
    for result in (lowered.model, emulate(lowered)):
        assert not list(contract.broken(result))
    assert not set(kept) & set(lowered.summary.lowered)
    assert set(run(emulate(lowered), X)) == {value.name for value in found.graph.outputs}


@given(graphs(), HALVES)
@settings(max_examples=40, deadline=None)
def test_keeping_everything_changes_no_bit(found: ir.Model, precision: Precision) -> None:
    lowered = lower(found, PrecisionPlan(precision, ("*",)))
    assert lowered.summary.lowered == ()
    expected, actual = run(found, X), run(emulate(lowered), X)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


@given(graphs())
@settings(max_examples=40, deadline=None)
def test_keeping_all_candidates_leaves_nothing_that_computes(found: ir.Model) -> None:
    plan = PrecisionPlan(Precision.FP16, candidates(found, Precision.FP16))
    expected, actual = run(found, X), run(emulate(lower(found, plan)), X)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


@given(graphs())
@settings(max_examples=30, deadline=None)
def test_lowering_and_normalising_are_deterministic(found: ir.Model) -> None:
    plan = PrecisionPlan(Precision.FP16)
    first, second = (ir.serde.serialize_model(lower(found, plan).model) for _ in range(2))
    assert first == second
    again = normalise(found)
    assert node_names(again) == node_names(found)
    assert not defects(again)


def test_the_oracle_of_equal_bits_can_fail() -> None:
    found = raw("g (float[3,3] x) => (float[3,3] y) { [n] y = Sigmoid(x) }")
    found = normalise(found)
    lowered = lower(found, PrecisionPlan(Precision.FP16))
    assert not np.array_equal(run(emulate(lowered), X)["y"], run(found, X)["y"])
