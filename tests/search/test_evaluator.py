"""The shadow run and the evaluator on small real graphs, and the search on the transformer that overflows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import pytest

from harness.backends.onnxruntime.backend import run_model
from harness.calibration.calibrate import calibrate
from harness.comparison.emulated_error import Compared, emulation_opener
from harness.errors import DataError, ModelError
from harness.graph import file as onnx_file
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import quantizable
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan, matches
from harness.search.evaluator import EmulationEvaluator, evaluator, literal
from harness.search.shrink import search
from harness.spec.model_spec import CalibrationSpec
from tests.helpers.recurrent import Layer
from tests.helpers.recurrent import model as recurrent_model
from tests.lowering.emulation.test_stepped import memory

GRAPH = """
<ir_version: 10, opset_import: ["" : 19]>
g (float[N, 8] x) => (float[N, 8] y, float[N, 4] z) {
    [first] a = MatMul(x, w1)
    [bias] b = Add(a, b1)
    [act] c = Sigmoid(b)
    [turn] d = Transpose<perm=[0, 1]>(c)
    [scale] s = Mul(d, big)
    [again] e = Mul(s, big)
    [second] f = MatMul(e, w2)
    [back] y = Div(f, big)
    [top] t, i = TopK<axis=1>(y, four)
    [out] z = Softmax(t)
}
"""
TRANSFORMER = Path(__file__).parents[2] / "suites/models/overflow_transformer/model.onnx"
CHAIN = (
    "layer2/feed_forward/first/MatMul",
    "layer2/feed_forward/first/Add",
    "layer2/feed_forward/gelu/Mul",
    "layer2/feed_forward/gelu/Mul_1",
    "layer2/feed_forward/second/MatMul",
)


def model(big: float) -> ir.Model:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(GRAPH)
    weights = {
        "w1": rng.standard_normal((8, 8)),
        "b1": rng.standard_normal(8),
        "w2": rng.standard_normal((8, 8)),
        "big": np.array(big),
    }
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([4]), "four"))
    return normalise(ir.from_proto(proto))


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((5, 8), dtype=np.float32)} for _ in range(count)]


def make(
    precision: Precision, tolerance: float = 5e-3, big: float = 3.0, **options: object
) -> EmulationEvaluator:
    normalised, plan = model(big), PrecisionPlan(precision)
    ranges = None
    if precision.quantized:
        tensors = [name for node in quantizable(normalised, plan) for name in node.activations]
        ranges = calibrate(normalised, samples(), tensors, CalibrationSpec(method="minmax")).ranges
    return evaluator(normalised, plan, samples(), tolerance, ranges=ranges, **options)


def own_error(found: EmulationEvaluator, node: str) -> float:
    """The error of a node's output where nothing else is lowered, the largest over outputs and samples."""
    others = [name for name in found.candidates if name != node]
    emulated = emulate(found.lowered(others))
    outputs = next(n for n in found.normalised.graph if n.name == node).outputs
    names = [value.name for value in outputs if value.dtype == ir.DataType.FLOAT]
    worst = 0.0
    with emulation_opener(found.plan.precision)(emulated, names) as engine:
        for feed in samples():
            expected, actual = run_model(found.normalised, feed, names), engine.run(feed)
            for name in names:
                difference = np.abs(actual[name].astype(np.float64) - expected[name]).sum()
                worst = max(worst, difference / np.abs(expected[name]).sum())
    return worst


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8, Precision.INT8_FP16])
def test_shadow_scores_are_each_nodes_own_error(precision: Precision) -> None:
    found = make(precision)
    scores = found.scores()
    assert scores.keys() == set(found.candidates)
    for node in found.candidates:
        # With FP16 beside INT8, Q/DQ is in FP16 only where its producer is.
        spread = 5e-2 if precision is Precision.INT8_FP16 else 1e-3
        assert scores[node] == pytest.approx(own_error(found, node), rel=spread, abs=1e-9)


def test_shadow_scores_differ_between_nodes() -> None:
    found = make(Precision.FP16)
    assert own_error(found, "first") != pytest.approx(own_error(found, "act"), rel=1e-2)


def test_overflow_scores_infinite_where_it_happens_and_where_it_is_read() -> None:
    scores = make(Precision.FP16, big=600.0).scores()
    assert {node for node, score in scores.items() if score == np.inf} == {"again", "second", "back"}


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_infinite_masks_are_no_error(precision: Precision) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 19]>
    g (float[2, 3] x) => (float[2, 3] y)
    <float[3] mask = {0.1, -inf, 0}> { [masked] a = Add(x, mask) [soft] y = Softmax(a) }
    """
    proto = onnx.parser.parse_model(text)
    found = evaluator(
        normalise(ir.from_proto(proto)),
        PrecisionPlan(precision),
        [{"x": np.linspace(0.3, 0.9, 6, dtype=np.float32).reshape(2, 3)}],
        1e-9,
    )
    scores = found.scores()
    assert 1e-5 < scores["masked"] < 1e-2
    assert found.ranking().certain == 0


def both_ways() -> Layer:
    """A bidirectional LSTM with states and peepholes."""
    rng = np.random.default_rng(3)
    shapes = {"X": (40, 2, 4), "W": (2, 32, 4), "R": (2, 32, 8), "B": (2, 64), "P": (2, 24)}
    shapes |= {"initial_h": (2, 2, 8), "initial_c": (2, 2, 8)}
    tensors = {name: rng.standard_normal(shape) * 0.4 for name, shape in shapes.items()}
    return Layer("LSTM", tensors, {"direction": "bidirectional"})


@pytest.mark.parametrize("layer", [memory(300, 8.0), both_ways()], ids=["long memory", "both ways"])
def test_a_recurrent_node_is_scored_as_it_is_judged(layer: Layer) -> None:
    found = normalise(ir.serde.deserialize_model(recurrent_model(layer, None)))
    names = {"X", "initial_h", "initial_c"} & layer.tensors.keys()
    feeds = [{name: np.asarray(layer.tensors[name], np.float32) for name in names}]
    made = evaluator(found, PrecisionPlan(Precision.FP16), feeds, 5e-3)
    scores, judged = made.scores(), made(())
    assert scores["layer"] == pytest.approx(judged, rel=0.2)
    assert judged > (5e-3 if layer.op == "GRU" else 1e-4)


def test_nodes_of_subgraphs_are_not_scored() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 19]>
    g (float[2] x, bool p) => (float[2] y) {
        [outer] a = Exp(x)
        [branch] y = If(p) <then_branch = t () => (float[2] u) { [inner] u = Sqrt(a) },
                            else_branch = e () => (float[2] v) { [other] v = Log(a) }>
    }
    """
    normalised = normalise(ir.from_proto(onnx.parser.parse_model(text)))
    feeds = [{"x": np.float32([1, 2]), "p": np.array(True)}]
    found = evaluator(normalised, PrecisionPlan(Precision.FP16), feeds, 1e-9)
    assert found.scores().keys() == {"outer"}
    assert search(found, found.ranking).nodes == ("outer", "inner")


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
def test_keeping_every_candidate_costs_nothing(precision: Precision) -> None:
    found = make(precision)
    assert found(frozenset()) > 1e-5
    assert found(frozenset(found.candidates)) <= 1e-6


def test_the_search_finds_what_overflows() -> None:
    found = make(Precision.FP16, big=600.0)
    answer = search(found, found.ranking)
    assert answer.before == np.inf
    assert answer.nodes == ("again", "second", "back")
    assert answer.minimal
    assert answer.after is not None
    assert answer.after < 5e-3


def test_int8_says_which_node_not_to_quantize() -> None:
    found = make(Precision.INT8, tolerance=1e-6)
    answer = search(found, found.ranking)
    assert answer.nodes == ("first", "second")


def test_op_types_of_the_plan_stay_and_are_no_candidates() -> None:
    plan = PrecisionPlan(Precision.FP16, ("ignored",), ("MatMul",))
    found = evaluator(model(3.0), plan, samples(), 5e-3)
    assert not {"first", "second"} & set(found.candidates)
    assert not {"first", "second"} & set(found.lowered(()).summary.lowered)


def test_only_the_named_outputs_are_compared() -> None:
    whole, part = make(Precision.FP16), make(Precision.FP16, compared=Compared(("y",)))
    assert part(frozenset()) != whole(frozenset())


def test_the_worst_case_counts() -> None:
    together = make(Precision.FP16)(frozenset())
    apart = make(Precision.FP16, compared=Compared(cases=(0, 1, 2)))(frozenset())
    assert apart > together


def test_a_scale_is_the_least_magnitude_that_errors_are_relative_to() -> None:
    relative = make(Precision.FP16, compared=Compared(("z",)))(frozenset())
    absolute = make(Precision.FP16, compared=Compared(("z",), scales={"z": 25.0}))(frozenset())
    assert absolute == pytest.approx(relative / 100)


def test_a_reference_that_is_not_finite() -> None:
    with pytest.raises(ModelError, match=r"output 'y' of the FP32 reference is not finite"):
        make(Precision.FP16, big=np.inf)


def test_no_samples() -> None:
    with pytest.raises(DataError, match="no samples"):
        evaluator(model(3.0), PrecisionPlan(Precision.FP16), [], 5e-3)


@pytest.mark.parametrize("name", ["conv[1]", "a*b", "what?", "plain/name:0", "[", "]*["])
def test_a_literal_pattern_matches_its_name_alone(name: str) -> None:
    assert matches(literal(name), name)
    others = ["conv1", "axxb", "whatx", "plain/name:1", "x", "]x["]
    assert not any(matches(literal(name), other) for other in others)


@pytest.fixture(scope="module")
def transformer() -> Iterator[EmulationEvaluator]:
    rng = np.random.default_rng(1)
    feeds = [{"tokens": rng.integers(0, 256, (4, 32))}]
    found = evaluator(normalise(onnx_file.read(TRANSFORMER)), PrecisionPlan(Precision.FP16), feeds, 5e-3)
    with found.error:
        yield found


def test_the_overflowing_chain_of_the_transformer(transformer: EmulationEvaluator) -> None:
    answer = search(transformer, transformer.ranking)
    assert answer.nodes == CHAIN
    assert answer.minimal
    assert answer.evaluations <= 15
