"""GRU, LSTM and RNN written out step by step, against NumPy that rounds gates and states at every step."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.backends.onnxruntime.models import run_model
from harness.backends.onnxruntime.nodewise import Nodewise
from harness.backends.onnxruntime.session import SessionSettings
from harness.lowering.emulation.emulate import Recurrence, emulate
from harness.lowering.emulation.stepped import has_recurrence, stepped
from harness.lowering.lower import lower
from harness.lowering.model import LoweredModel, LoweringSummary
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan
from tests.helpers import recurrent
from tests.helpers.lowering import mre
from tests.helpers.recurrent import GATES, STATES, InexactError, Layer

HALVES = {Precision.FP16: ("FLOAT16", np.float16), Precision.BF16: ("BFLOAT16", ml_dtypes.bfloat16)}
EXACT = (
    ("Relu",),
    ("Affine", 0.5, 0.25),
    ("LeakyRelu", 0.25),
    ("ThresholdedRelu", 0.5),
    ("HardSigmoid", 0.25, 0.5),
)
OTHERS = (("Sigmoid",), ("Tanh",), ("Softsign",), ("Softplus",), ("Elu", 0.7), ("ScaledTanh", 1.2, 0.6))
NAMES = ("activations", "activation_alpha", "activation_beta")
FORWARD = st.just(0)


@st.composite
def layers(draw: st.DrawFn, functions: Any, grain: float, layouts: Any = FORWARD) -> Layer:
    """A layer with any of its attributes; its numbers are multiples of `grain`, which both types hold."""
    op = draw(st.sampled_from(sorted(GATES)))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    ways = 2 if direction == "bidirectional" else 1
    steps, batch, size, hidden = (draw(st.integers(1, most)) for most in (5, 3, 3, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    attributes: dict[str, Any] = {"direction": direction, **draw(_attributes(op, ways, functions))}
    attributes |= {"layout": 1} if draw(layouts) else {}

    def numbers(*shape: int, most: float = 0.5) -> Any:
        return rng.integers(-int(most / grain), int(most / grain) + 1, shape) * grain

    first = (batch, ways) if "layout" in attributes else (ways, batch)
    wide = (batch, steps) if "layout" in attributes else (steps, batch)
    tensors = {
        "X": numbers(*wide, size, most=2.0),
        "W": numbers(ways, GATES[op] * hidden, size),
        "R": numbers(ways, GATES[op] * hidden, hidden),
        "B": numbers(ways, 2 * GATES[op] * hidden),
        "sequence_lens": rng.integers(1, steps + 1, batch),
        "initial_h": numbers(*first, hidden),
        "initial_c": numbers(*first, hidden),
        "P": numbers(ways, 3 * hidden),
    }
    optional = ["B", "sequence_lens", "initial_h", *(["initial_c", "P"] if op == "LSTM" else [])]
    given = {"X", "W", "R", *draw(st.lists(st.sampled_from(optional), unique=True))}
    return Layer(op, {name: a for name, a in tensors.items() if name in given}, attributes)


@st.composite
def _attributes(draw: st.DrawFn, op: str, ways: int, functions: Any) -> dict[str, Any]:
    chosen = [draw(functions) for _ in range(ways * len(recurrent.FUNCTIONS[op]))]
    spelt = str if op == "RNN" or draw(st.booleans()) else str.lower  # ONNX Runtime's RNN minds the case
    found: dict[str, Any] = {"activations": [spelt(name) for name, *_ in chosen]}
    for at, key in enumerate(NAMES[1:], 1):
        if values := [one[at] for one in chosen if len(one) > at]:
            found[key] = values
    if draw(st.booleans()):
        found["clip"] = draw(st.sampled_from([0.5, 1.25]))
    if op == "GRU":
        found["linear_before_reset"] = draw(st.integers(0, 1))
    if op == "LSTM":
        found["input_forget"] = draw(st.integers(0, 1))
    return found


def built(layer: Layer, half: str | None) -> ir.Model:
    return normalise(ir.serde.deserialize_model(recurrent.model(layer, half)))


def lowered(layer: Layer, precision: Precision) -> LoweredModel:
    return LoweredModel(built(layer, HALVES[precision][0]), PrecisionPlan(precision), LoweringSummary())


def feeds(layer: Layer) -> dict[str, Any]:
    names = {"X", "initial_h", "initial_c"} & layer.tensors.keys()
    return {name: np.asarray(layer.tensors[name], np.float32) for name in names}


def run(model: ir.Model, layer: Layer, level: str = "basic") -> list[Any]:
    return list(run_model(model, feeds(layer), settings=SessionSettings(level=level)).values())


def rounding(precision: Precision) -> Any:
    return lambda x: x.astype(np.float32).astype(HALVES[precision][1])


@pytest.mark.parametrize("precision", HALVES)
@given(layers(st.sampled_from(EXACT), 0.25, st.booleans()))
@settings(max_examples=25, deadline=None)
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_every_attribute_to_the_bit(precision: Precision, layer: Layer) -> None:
    try:
        expected = recurrent.outputs(layer, rounding(precision), exact=True)
    except InexactError:
        assume(False)
        raise
    found = lowered(layer, precision)
    answers = {level: run(emulate(found), layer, level) for level in ("none", "basic")}
    with Nodewise(stepped(found.model)) as oracle:
        answers["oracle"] = list(oracle.run(feeds(layer)).values())
    for who, arrays in answers.items():
        for name, actual, wanted in zip(("Y", "Y_h", "Y_c"), arrays, expected, strict=False):
            np.testing.assert_array_equal(actual, wanted, err_msg=f"{who} {name}")


@given(layers(st.sampled_from((*EXACT, *OTHERS)), 1 / 64))
@settings(max_examples=40, deadline=None)
def test_the_oracle_computes_what_the_runtime_does_in_fp32(layer: Layer) -> None:
    """The oracle without its rounding, against ONNX Runtime's own recurrent kernels."""
    expected = recurrent.outputs(layer, np.asarray)
    for actual, wanted in zip(run(built(layer, None), layer), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("function", OTHERS, ids=lambda function: function[0])
@pytest.mark.parametrize("op", sorted(GATES))
def test_one_step_from_the_oracles_state_is_an_ulp_off_at_most_and_seldom(
    op: str, function: Any, precision: Precision
) -> None:
    """Forced: each row starts where the oracle was, so that differences do not add up.

    The ulp is that of the tensor's largest number: two terms of a new state may nearly cancel.
    """
    rng, hidden, batch = np.random.default_rng(5), 16, 256
    half = rounding(precision)
    count = len(recurrent.FUNCTIONS[op])
    attributes = dict(zip(NAMES, ([part] * count for part in function), strict=False))
    shapes = {"X": (1, batch, 8), "W": (1, GATES[op] * hidden, 8), "R": (1, GATES[op] * hidden, hidden)}
    shapes |= dict.fromkeys(("initial_h", "initial_c")[: STATES[op]], (1, batch, hidden))
    tensors = {name: half(rng.standard_normal(s) * 0.4).astype(np.float64) for name, s in shapes.items()}
    layer = Layer(op, tensors, attributes)
    actual, wanted = run(emulate(lowered(layer, precision)), layer), recurrent.outputs(layer, half)
    for one, other in zip(actual, wanted, strict=True):
        assert np.abs(one - other).max() <= ml_dtypes.finfo(HALVES[precision][1]).eps * np.abs(other).max()
        assert np.mean(one != other) <= 0.005


def memory(steps: int, bias: float) -> Layer:
    """A GRU whose update gate stays near one: what it adds up in one step is a small part of its state."""
    rng, hidden, batch = np.random.default_rng(2), 16, 2
    bias_of = np.zeros((1, 6 * hidden))
    bias_of[:, :hidden] = bias
    tensors = {
        "X": rng.standard_normal((steps, batch, 8)),
        "W": rng.standard_normal((1, 3 * hidden, 8)) * 0.1,
        "R": rng.standard_normal((1, 3 * hidden, hidden)) * 0.1,
        "B": bias_of,
        "initial_h": rng.standard_normal((1, batch, hidden)),
    }
    return Layer("GRU", tensors, {"linear_before_reset": 1})


def errors(layer: Layer) -> dict[Recurrence, float]:
    normalised = built(layer, None)
    exact = run(normalised, layer, "none")[0]
    plan = lower(normalised, PrecisionPlan(Precision.FP16))
    kinds: tuple[Recurrence, ...] = ("kept", "stepped")
    return {kind: mre(run(emulate(plan, kind), layer)[0], exact) for kind in kinds}


def test_long_memory_tells_the_two_ends_apart_and_short_memory_does_not() -> None:
    long, short = errors(memory(600, 8.0)), errors(memory(600, 0.0))
    assert long["kept"] < 1e-3 < 10 * long["kept"] < long["stepped"]
    assert short["stepped"] < 5 * short["kept"] < 5e-3


def test_names_stay_and_what_is_not_recurrent_is_left_alone() -> None:
    found = lowered(memory(2, 0.0), Precision.FP16)
    assert has_recurrence(found.model)
    written = stepped(found.model)
    assert {node.op_type for node in written.graph if node.name == "layer"} == {"Scan"}
    assert not has_recurrence(written)
    assert stepped(written) is written
    single = built(memory(2, 0.0), None)
    assert stepped(single) is single


def test_a_state_that_is_not_rounded_is_seen() -> None:
    """The oracle of equal bits fails on the other end of the bracket."""
    layer = memory(6, 2.0)
    expected = recurrent.outputs(layer, rounding(Precision.FP16))
    kept = run(emulate(lowered(layer, Precision.FP16), "kept"), layer)
    assert not np.array_equal(kept[0], expected[0])
