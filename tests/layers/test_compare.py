"""Layer-wise comparison on a small graph whose engine is wrong in a known place."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.backends.base import NOTHING
from harness.backends.onnxruntime.slices import SliceOpener
from harness.comparison.value_range import BF16, FP16, FP32, measure_range
from harness.errors import DataError
from harness.layers.compare import LayerQuestion, compare_layers
from harness.layers.explain import explain, to_json, warnings
from harness.layers.graph import Extent, extents_of, groups_of, places_of
from harness.layers.result import Layers
from harness.precision import TOLERANCES, UNIT_ROUNDOFF, Precision
from harness.spec.terms import Terms

GRAPH = """
<ir_version: 9, opset_import: ["" : 19]>
chain (float[N, 8] x) => (float[N, 8] out)
<float[8] one = {1, 1, 1, 1, 1, 1, 1, 1}>
{
    [a] a = Add (x, one)
    [b] b = Mul (a, a)
    [s] s = Shape (b)
    [c] c = Sub (b, x)
    [d] d = Abs (c)
    [out] out = Add (d, b)
}
"""
FP16_LIMIT = TOLERANCES[Precision.FP16].limit
Change = Callable[[NDArray[Any]], NDArray[Any]]


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return ir.serde.deserialize_model(onnx.parser.parse_model(GRAPH))


@pytest.fixture
def feeds() -> dict[str, NDArray[Any]]:
    return {"x": np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)}


class Changed:
    """An engine that computes `model` and changes tensors on their way, with all that follows from them."""

    def __init__(self, model: ir.Model, changes: Mapping[str, Change]) -> None:
        self._model, self._changes = model, changes
        self.opened: list[tuple[str, ...]] = []

    def __call__(self, tensors: Sequence[str], given: Mapping[str, Any] = NOTHING, /) -> Any:  # noqa: ARG002
        self.opened.append(tuple(tensors))
        return _Opened(self, tuple(dict.fromkeys((*tensors, "out"))))

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        values: dict[str, NDArray[Any]] = {**feeds, "one": np.ones(8, np.float32)}
        compute = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract}
        for node in self._model.graph:
            read = [values[value.name] for value in node.inputs]
            if node.op_type == "Shape":
                made = np.array(read[0].shape)
            else:
                made = np.abs(read[0]) if node.op_type == "Abs" else compute[node.op_type](*read)
            name = node.outputs[0].name
            values[name] = self._changes.get(name, lambda value: value)(made)
        return values


class _Opened:
    def __init__(self, engine: Changed, names: tuple[str, ...]) -> None:
        self._engine, self._names = engine, names

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        found = self._engine.run(feeds)
        return {name: found[name] for name in self._names}

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def question(
    model: ir.Model, feeds: dict[str, NDArray[Any]], changes: Mapping[str, Change], **more: Any
) -> LayerQuestion:
    engine = Changed(model, changes)
    made = LayerQuestion(
        normalised=model,
        offered=dict.fromkeys(("a", "b", "s", "c", "d", "out"), 4),
        terms=Terms.of(Precision.FP16),
        feeds=feeds,
        reference=SliceOpener(model),
        engine=engine,
        outputs={"out": engine.run(feeds)["out"]},
        instrumentation="added outputs",
    )
    return replace(made, **more)


def names(layers: Sequence[Any]) -> list[str]:
    return [layer.place.tensor for layer in layers]


def test_a_right_engine_has_no_layer_out_of_tolerance(model: ir.Model, feeds: dict[str, Any]) -> None:
    found = compare_layers(question(model, feeds, {}))
    assert names(found.layers) == ["a", "b", "s", "c", "d", "out"]
    assert found.over == ()
    assert found.creators() == ()
    assert (found.first_over, found.first_non_finite, warnings(found)) == (None, None, ())


def test_the_first_wrong_tensor_is_named_and_blamed(model: ir.Model, feeds: dict[str, Any]) -> None:
    found = compare_layers(question(model, feeds, {"b": lambda b: b * np.float32(1.1)}))
    assert found.first_over is not None
    assert found.first_over.place.tensor == "b"
    assert names(found.over) == ["b", "c", "d", "out"]
    assert names(found.creators())[0] == "b"
    by_name = dict(zip(names(found.layers), found.layers, strict=True))
    assert by_name["b"].amplification == pytest.approx(0.1 / UNIT_ROUNDOFF[Precision.FP16], rel=1e-3)
    assert by_name["d"].amplification == pytest.approx(1.0)
    assert by_name["d"].created == 0.0


def test_the_first_tensor_that_is_not_finite_is_named(model: ir.Model, feeds: dict[str, Any]) -> None:
    def overflow(value: NDArray[Any]) -> NDArray[Any]:
        value = value.copy()
        value[3, 4] = np.inf
        return value

    found = compare_layers(question(model, feeds, {"a": lambda a: a * np.float32(1.1), "c": overflow}))
    assert found.first_over is not None
    assert found.first_non_finite is not None
    assert (found.first_over.place.tensor, found.first_non_finite.place.tensor) == ("a", "c")
    assert math.isinf(found.creators()[0].created)
    by_name = dict(zip(names(found.layers), found.layers, strict=True))
    assert by_name["d"].amplification == 1.0


def test_wrong_integers_and_shapes_are_out_of_tolerance(model: ir.Model, feeds: dict[str, Any]) -> None:
    found = compare_layers(question(model, feeds, {"s": lambda s: s + 1, "d": lambda d: d[:1]}))
    assert {"s", "d"} <= set(names(found.over))


@pytest.mark.parametrize("memory", [1, 1100, 3000, 10**9])
def test_groups_change_nothing_but_how_much_is_held(
    model: ir.Model, feeds: dict[str, Any], memory: int
) -> None:
    changes = {"b": lambda b: b * np.float32(1.1)}
    whole = compare_layers(question(model, feeds, changes))
    asked = question(model, feeds, changes, memory_bytes=memory)
    found = compare_layers(asked)
    assert [layer.error for layer in found.layers] == pytest.approx([layer.error for layer in whole.layers])
    assert isinstance(asked.engine, Changed)
    assert len(asked.engine.opened) == found.groups
    assert [name for group in asked.engine.opened for name in group] == names(found.layers)
    assert (found.groups == 1) == (memory == 10**9)


def test_tensors_beyond_the_memory_are_told(model: ir.Model, feeds: dict[str, Any]) -> None:
    found = compare_layers(question(model, feeds, {}, memory_bytes=100))
    assert found.oversized == ("a", "b", "c", "d", "out")
    assert "more than 100 bytes were needed" in "".join(warnings(found))


def test_tensors_that_the_engine_has_not_are_told_and_passed_over(
    model: ir.Model, feeds: dict[str, Any]
) -> None:
    changes = {"b": lambda b: b * np.float32(1.1)}
    found = compare_layers(question(model, feeds, changes, offered=dict.fromkeys(("b", "d", "out"), 4)))
    assert found.not_offered == ("a", "s", "c")
    assert "3 tensors are not in the engine: 'a', 's', 'c'" in warnings(found)
    by_name = dict(zip(names(found.layers), found.layers, strict=True))
    assert by_name["d"].error_in == pytest.approx(0.1, rel=1e-3)


def test_nothing_to_compare_is_an_error(model: ir.Model, feeds: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no layers to compare"):
        compare_layers(question(model, feeds, {}, offered={}))


def test_the_observer_effect_is_measured_and_warned_of(model: ir.Model, feeds: dict[str, Any]) -> None:
    asked = question(model, feeds, {})
    moved = {"out": asked.outputs["out"] * np.float32(1.01)}
    found = compare_layers(replace(asked, outputs=moved))
    assert found.observer["out"] == pytest.approx(0.01, rel=0.02)
    assert "observer effect" in warnings(found)[0]
    small = {"out": asked.outputs["out"] * np.float32(1.0001)}
    assert warnings(compare_layers(replace(asked, outputs=small))) == ()


def test_outputs_that_are_nan_on_both_runs_are_no_observer_effect(
    model: ir.Model, feeds: dict[str, Any]
) -> None:
    found = compare_layers(question(model, feeds, {"out": lambda out: np.full_like(out, np.nan)}))
    assert found.observer_effect == 0.0
    assert not found.layers[-1].finite


def test_a_failure_lists_all_layers_in_graph_order_then_the_creators(
    model: ir.Model, feeds: dict[str, Any]
) -> None:
    found = compare_layers(question(model, feeds, {"b": lambda b: b * np.float32(1.1)}))
    text = explain(found, "chain[fp16]", context=("seen at batch 16",), reproduce="pytest x")
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "chain[fp16] layers: 4 of 6 tensors out of tolerance at fp16 (mre > 5.0e-03)"
    assert lines[1].startswith("first out of tolerance: 'b' (Mul 'b'): mre 1.0e-01 > 5.0e-03, inputs at 0.0")
    table = lines[lines.index("out of tolerance, in graph order:") + 1 :]
    assert [line.split()[0] for line in table[:4]] == ["'b'", "'c'", "'d'", "'out'"]
    assert table[4] == "error is created most by:"
    assert table[5].startswith("'b' (Mul 'b'): 0.0e+00 in, 1.0e-01 out, amplification 2")
    assert lines[-2:] == ["seen at batch 16", "reproduce: pytest x"]


def test_json_is_plain_and_flat(model: ir.Model, feeds: dict[str, Any]) -> None:
    found: Layers = compare_layers(question(model, feeds, {"c": lambda c: c * np.float32(np.nan)}))
    data = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert data["first_non_finite"] == "c"
    assert [row["tensor"] for row in data["layers"]] == ["a", "b", "s", "c", "d", "out"]
    assert data["layers"][0]["largest"] == pytest.approx(float(np.abs(feeds["x"] + 1).max()))
    assert data["layers"][3]["error"] == "inf"


def test_values_beyond_the_format_are_listed(model: ir.Model, feeds: dict[str, Any]) -> None:
    found = compare_layers(question(model, {"x": feeds["x"] * 1000}, {}))
    assert "b" in names(found.beyond_range)
    assert "> 65504" in explain(found)
    as_bf16 = question(model, {"x": feeds["x"] * 1000}, {}, terms=Terms.of(Precision.BF16))
    assert compare_layers(as_bf16).beyond_range == ()


def test_places_name_makers_and_readers(model: ir.Model) -> None:
    places = {place.tensor: place for place in places_of(model)}
    assert places["a"].reads == ("x", "one")
    assert places["out"].op_type == "Add"


def test_a_node_with_a_subgraph_reads_what_its_body_reads() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 19]>
    choice (float[4] x, bool p) => (float[4] y)
    {
        a = Abs (x)
        y = If (p) <
            then_branch = then () => (float[4] t) { t = Neg (a) },
            else_branch = other () => (float[4] e) { e = Identity (x) }
        >
    }
    """
    places = {p.tensor: p for p in places_of(ir.serde.deserialize_model(onnx.parser.parse_model(text)))}
    assert set(places) == {"a", "y"}
    assert {"p", "a", "x"} <= set(places["y"].reads)


def test_extents_come_from_inference_and_from_a_run_where_it_cannot_tell() -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 19]>
    some (float[N, 4] x) => (float[M] y)
    {
        m = Abs (x)
        i = NonZero (m)
        h = Cast <to = 10> (m)
        t = Transpose (i)
        y = GatherND (m, t)
    }
    """
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    feeds = {"x": np.array([[1, 0, 2, 0], [0, 0, 0, 3]], np.float32)}
    found = extents_of(model, ["m", "h", "i", "y"], feeds)
    assert found == {
        "m": Extent((2, 4), 32),
        "h": Extent((2, 4), 16),
        "i": Extent((2, 3), 48),
        "y": Extent((3,), 12),
    }


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 1000)), st.integers(1, 3000))
def test_groups_keep_the_order_and_the_memory(sizes: dict[str, int], memory: int) -> None:
    found = groups_of(sizes, memory)
    assert [name for group in found.groups for name in group] == list(sizes)
    for group in found.groups:
        assert sum(sizes[name] for name in group) <= memory or len(group) == 1
    assert set(found.oversized) == {name for name, size in sizes.items() if size > memory}


def test_groups_are_small_where_that_is_enough() -> None:
    found = groups_of({"a": 10, "b": 10, "c": 70, "d": 10}, 60, enough_bytes=20)
    assert found.groups == (("a", "b"), ("c",), ("d",))
    assert found.oversized == ("c",)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("number_format", [FP16, BF16, FP32])
def test_range_is_the_formula(dtype: Any, number_format: Any) -> None:
    x = (np.random.default_rng(0).standard_normal((300, 401)) ** 7).astype(dtype)
    x[3, 4], x[5, 6], x[7, 8] = 0, np.inf, np.nan
    size = np.abs(x[np.isfinite(x)])
    found = measure_range(x, number_format)
    assert found.largest == size.max()
    assert found.subnormal == pytest.approx(((size > 0) & (size < number_format.smallest)).sum() / x.size)


@pytest.mark.parametrize("memory", [1, 1100, 3000, 10**9])
def test_groups_that_start_from_kept_tensors_give_the_same(
    model: ir.Model, feeds: dict[str, NDArray[Any]], memory: int
) -> None:
    nodes: list[str] = []
    opener = SliceOpener(model)

    def opened(tensors: Sequence[str], given: Mapping[str, Any] = NOTHING, *more: Any) -> Any:
        nodes.extend(node.name for node in opener.parts.between(given, tensors).model.graph.node)
        return opener(tensors, given, *more)

    asked = question(model, feeds, {}, memory_bytes=memory, engine=opened, sliced=True)
    found = compare_layers(asked)
    assert names(found.layers) == ["a", "b", "s", "c", "d", "out"]
    assert [layer.error for layer in found.layers] == [0.0] * 6
    assert nodes == [node.name for node in model.graph], "every node runs once"
    assert found.observer_effect < 1e-6


def test_slices_take_no_more_memory_than_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.layers.compare.SLICE_BYTES", 1 << 20)
    nodes = " ".join(f"t{i + 1} = Abs (t{i})" for i in range(40))
    header = '<ir_version: 9, opset_import: ["" : 19]> chain (float[N] t0) => (float[N] out)'
    deep = ir.serde.deserialize_model(onnx.parser.parse_model(f"{header} {{ {nodes} out = Abs (t40) }}"))
    feeds = {"t0": np.ones(1 << 16, np.float32)}
    offered = {f"t{i + 1}": 4 for i in range(40)}
    openers = SliceOpener(deep), SliceOpener(deep)
    asked = question(deep, feeds, {}, offered=offered, reference=openers[0], engine=openers[1], sliced=True)
    tracemalloc.start()
    found = compare_layers(asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.groups, len(found.layers)) == (20, 40)
    assert sum(opener.room.nbytes for opener in openers) <= 9 / 8 * (1 << 20)
    assert peak < 2 << 20, "besides the rooms, of 20 MiB in all"
