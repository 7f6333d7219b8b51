"""Random graphs, emulated, agree to the bit with NumPy that rounds where the plan says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower
from harness.precision import Precision, PrecisionPlan
from tests.helpers.lowering import model, node_names, run

SIZE = 3
FACE = f"float[{SIZE},{SIZE}]"
WEIGHTS = {
    "near": np.linspace(-1.3, 1.7, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE),
    "small": np.full((SIZE, SIZE), 3e-7, np.float32),
    "top": np.full((SIZE, SIZE), 65504, np.float32),
    "beyond": np.full((SIZE, SIZE), 7e4, np.float32),
}
INDICES = {"order": np.array([2, 0, 1]), "flat": np.array([-1]), "square": np.array([SIZE, SIZE])}
X = {"x": (np.arange(SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE) - 3) / np.float32(0.7)}
HALVES = {Precision.FP16: np.dtype(np.float16), Precision.BF16: np.dtype(ml_dtypes.bfloat16)}

Array = NDArray[Any]
Half = np.dtype[Any]
NUMPY: Mapping[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
    "Neg": np.negative,
    "Abs": np.abs,
    "Floor": np.floor,
    "Relu": lambda a: np.maximum(a, np.float32(0)),
    "Where": np.where,
    "Less": np.less,
    "Transpose": np.transpose,
    "Identity": np.array,
    "Gather": lambda a, indices: a[indices],
    "Reshape": np.reshape,
}
"""Each correctly rounded in FP32, so that rounding again is as exact as one rounding in 16 bits."""


@st.composite
def graphs(draw: st.DrawFn) -> ir.Model:
    """A normalised graph of square matrices: shared tensors and weights, outputs read again, Ifs."""
    made, lines = ["x"], ["yes = Constant <value = bool {1}> ()"]
    for k in range(draw(st.integers(1, 8))):
        known = [draw(st.sampled_from(made)), *(draw(st.sampled_from([*made, *WEIGHTS])) for _ in range(2))]
        lines.append(draw(st.sampled_from(FORMS)).format(*known, k=k, face=FACE))
        made.append(f"t{k}")
    outputs = {made[-1], *draw(st.lists(st.sampled_from([*made, *WEIGHTS]), max_size=2))}
    ends = ", ".join(f"{FACE} {name}" for name in sorted(outputs))
    return model(f"g ({FACE} x) => ({ends}) {{ {' '.join(lines)} }}", **WEIGHTS, **INDICES)


FORMS = (
    *(f"[n{{k}}] t{{k}} = {op}({{0}}, {{1}})" for op in ("Add", "Sub", "Mul", "Max", "Min")),
    *(f"[n{{k}}] t{{k}} = {op}({{0}})" for op in ("Neg", "Abs", "Floor", "Relu", "Transpose", "Identity")),
    "[l{k}] b{k} = Less({0}, {1}) [n{k}] t{k} = Where(b{k}, {2}, {0})",
    "[n{k}] t{k} = Gather({1}, order)",
    "[l{k}] f{k} = Reshape({0}, flat) [n{k}] t{k} = Reshape(f{k}, square)",
    """[n{k}] t{k} = If (yes) <
      then_branch = a{k} () => ({face} p{k}) {{ [m{k}] q{k} = Mul({0}, {1}) [o{k}] p{k} = Add(q{k}, {2}) }},
      else_branch = b{k} () => ({face} r{k}) {{ [e{k}] r{k} = Neg({2}) }} >""",
)


def evaluate(graph: ir.Graph, known: dict[str, Array], lowered: Collection[str], half: Half) -> None:
    """Add what the nodes of `graph` make to `known`; `lowered` nodes read and make numbers of `half`."""
    known.update((name, value.const_value.numpy()) for name, value in graph.initializers.items())
    for node in graph:
        (output,) = node.outputs
        if node.op_type == "If":
            branch = node.attributes["then_branch"].as_graph()
            evaluate(branch, known, lowered, half)
            known[output.name] = known[branch.outputs[0].name]
            continue
        arrays = [known[value.name] for value in node.inputs]
        round_ = rounding(half) if node.name in lowered else np.asarray
        known[output.name] = round_(NUMPY[node.op_type](*map(round_, arrays)))


def rounding(half: Half) -> Callable[[Array], Array]:
    return lambda a: a.astype(half).astype(np.float32) if a.dtype == np.float32 else a


@pytest.mark.parametrize("precision", HALVES)
@given(graphs(), st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_random_graphs_round_where_the_plan_says(
    precision: Precision, found: ir.Model, data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.sampled_from(node_names(found)), max_size=3, unique=True))
    lowered = lower(found, PrecisionPlan(precision, tuple(kept)))
    expected = dict(X)
    evaluate(found.graph, expected, lowered.summary.lowered, HALVES[precision])
    for name, array in run(emulate(lowered), X).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_the_oracle_can_fail() -> None:
    found = model(f"g ({FACE} x) => ({FACE} y) {{ [n] h = Mul(x, x) [m] y = Sub(h, x) }}")
    expected = dict(X)
    evaluate(found.graph, expected, {"n"}, HALVES[Precision.FP16])
    emulated = run(emulate(lower(found, PrecisionPlan(Precision.FP16))), X)
    assert not np.array_equal(emulated["y"], expected["y"])
