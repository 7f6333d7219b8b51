"""Calibration over a real model: groups, masks, cache, `auto`, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import pytest

from harness.backends.onnxruntime.backend import open_model
from harness.calibration.auto import choose, split
from harness.calibration.calibrate import Resources, calibrate, calibrate_cached
from harness.calibration.collect import group
from harness.calibration.histogram import Histogram
from harness.calibration.sizes import measure
from harness.data.samples import Spool, describe, rereadable
from harness.errors import DataError, LoweringError
from harness.lowering.passes.normalise import normalise
from harness.spec.model_spec import CalibrationSpec
from harness.storage.cache import Cache

MODEL = """
<ir_version: 10, opset_import: ["" : 19]>
g (float[N, 6] x) => (float[N, 4] y) {
    a = Relu(x)
    b = Mul(a, x)
    c = Neg(b)
    d = Concat<axis=1>(c, b)
    y = Slice(d, zero, four, one)
}
"""
QUANTIZABLE = """
<ir_version: 10, opset_import: ["" : 19]>
g (float[N, 6] x) => (float[N, 4] y) { y = MatMul(x, w) }
"""
INNER = ("a", "b", "d")
ALL = ("x", *INNER)


@pytest.fixture
def model() -> ir.Model:
    proto = onnx.parser.parse_model(MODEL)
    for name, value in (("zero", 0), ("four", 4), ("one", 1)):
        proto.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value]))
    return ir.from_proto(proto)


def samples(count: int = 5, rows: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((rows + k, 6), dtype=np.float32)} for k in range(count)]


def expected(feeds: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """All magnitudes of each tensor over all samples, by NumPy."""
    x = np.concatenate([feed["x"] for feed in feeds])
    b = np.maximum(x, 0) * x
    return {"x": np.abs(x), "a": np.maximum(x, 0), "b": np.abs(b), "d": np.abs(np.concatenate([-b, b]))}


class CountingOpener:
    """Opens models on ONNX Runtime and counts sessions, runs and the most bytes that a run returned."""

    def __init__(self) -> None:
        self.sessions = self.runs = self.most_bytes = 0

    def __call__(self, model: ir.Model, outputs: Sequence[str]) -> AbstractContextManager[Any]:
        self.sessions += 1
        engine = open_model(model, outputs)
        run = engine.run

        def counted(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            self.runs += 1
            found = run(feeds)
            self.most_bytes = max(self.most_bytes, sum(array.nbytes for array in found.values()))
            return found

        engine.run = counted  # type: ignore[method-assign]
        return engine


def spec(method: str, **options: Any) -> CalibrationSpec:
    return CalibrationSpec(method=method, **options)


def test_minmax_equals_numpy(model: ir.Model) -> None:
    found = calibrate(model, samples(), ALL, spec("minmax"))
    assert found.ranges == {name: data.max() for name, data in expected(samples()).items()}
    assert (found.method, found.samples, found.warnings) == ("minmax", 5, ())


def test_percentile_equals_numpy_within_a_bin(model: ir.Model) -> None:
    found = calibrate(model, samples(), ALL, spec("percentile", percentile=90))
    for name, data in expected(samples()).items():
        assert found.ranges[name] == pytest.approx(np.percentile(data, 90), abs=float(data.max()) / 1024)
    assert found.method == "percentile 90"


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_groups_change_nothing(model: ir.Model, method: str) -> None:
    whole, parts = CountingOpener(), CountingOpener()
    one = calibrate(model, samples(), ALL, spec(method), resources=Resources(opener=whole))
    many = calibrate(model, samples(), ALL, spec(method), resources=Resources(1, parts))
    assert one.ranges == many.ranges
    assert (whole.sessions, parts.sessions) == (2, 1 + len(INNER))


def test_fetched_tensors_stay_within_the_budget(model: ir.Model) -> None:
    opener, budget = CountingOpener(), 4 * 7 * 12 * 2
    calibrate(model, samples(), ALL, spec("minmax"), resources=Resources(budget, opener))
    assert 0 < opener.most_bytes <= budget // 2


def test_inference_is_run_once_a_sample(model: ir.Model) -> None:
    opener, feeds = CountingOpener(), samples(8, rows=3)
    feeds = [{"x": feed["x"][:3]} for feed in feeds]
    calibrate(model, feeds, ALL, spec("entropy"), resources=Resources(opener=opener))
    assert opener.runs == 8 + 1


def test_inputs_alone_need_no_inference(model: ir.Model) -> None:
    opener = CountingOpener()
    found = calibrate(model, samples(), ["x"], spec("minmax"), resources=Resources(opener=opener))
    assert opener.runs == 0
    assert found.ranges["x"] == expected(samples())["x"].max()


def test_an_iterator_of_samples_is_read_once(model: ir.Model) -> None:
    found = calibrate(model, iter(samples()), ALL, spec("minmax"), resources=Resources(1))
    assert found.ranges == calibrate(model, samples(), ALL, spec("minmax")).ranges


def test_only_so_many_samples_as_the_spec_says(model: ir.Model) -> None:
    found = calibrate(model, samples(9), ["x"], spec("minmax", samples=2))
    assert found.samples == 2
    assert found.ranges["x"] == expected(samples(2))["x"].max()


def test_masks_set_no_scale_and_are_told(model: ir.Model) -> None:
    feeds = samples()
    feeds[2]["x"][0, :2] = -3.4028235e38
    found = calibrate(model, feeds, ["x"], spec("minmax"))
    clean = np.where(np.abs(expected(feeds)["x"]) > 1e30, 0, expected(feeds)["x"])
    assert found.ranges["x"] == clean.max()
    assert found.warnings == ("'x': 2 values infinite or beyond 1e+30 left out (masks?)",)


def test_nan_is_told(model: ir.Model) -> None:
    feeds = samples()
    feeds[0]["x"][0, 0] = np.nan
    found = calibrate(model, feeds, ["b"], spec("entropy"))
    assert np.isfinite(found.ranges["b"])
    assert found.warnings == ("'b': 1 NaN left out",)


def test_zero_everywhere_has_range_zero(model: ir.Model) -> None:
    found = calibrate(model, [{"x": np.full((2, 6), -1, np.float32)}], ["a"], spec("entropy"))
    assert found.ranges == {"a": 0.0}
    assert found.warnings == ("'a': every value is zero; range 0, scale 1",)


@pytest.mark.parametrize("method", ["minmax", "auto"])
def test_no_samples(model: ir.Model, method: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples"):
        calibrate(model, [], ALL, spec(method))
    with pytest.raises(DataError, match="no samples"):
        calibrate_cached(model, iter([]), ALL, spec(method), cache=Cache(tmp_path), model_digest="m")


def test_unknown_tensor(model: ir.Model) -> None:
    with pytest.raises(LoweringError, match="'nowhere' is not in the main graph"):
        calibrate(model, samples(), ["nowhere"], spec("minmax"))


SIZES = {"a": 4 * 4 * 6, "b": 4 * 4 * 6, "d": 4 * 4 * 12}


def annotate(model: ir.Model, first: object) -> None:
    for node in model.graph:
        if node.outputs[0].name in SIZES:
            columns = 12 if node.outputs[0].name == "d" else 6
            node.outputs[0].shape = ir.Shape([first, columns])


def test_sizes_are_the_largest_over_all_shapes(model: ir.Model) -> None:
    opener = CountingOpener()
    assert measure(model, samples(3, rows=2), INNER, opener) == SIZES
    assert opener.runs == 3


def test_sizes_of_annotated_tensors_need_no_run(model: ir.Model) -> None:
    annotate(model, "N")
    opener = CountingOpener()
    assert measure(model, samples(3, rows=2), INNER, opener) == SIZES
    assert opener.runs == 0


@pytest.mark.parametrize("dim", [None, "unknown"])
def test_sizes_with_dimensions_that_no_input_has_are_measured(model: ir.Model, dim: object) -> None:
    annotate(model, dim)
    opener = CountingOpener()
    assert measure(model, samples(3, rows=2), INNER, opener) == SIZES
    assert opener.runs == 3


def test_grouping_keeps_order_and_budget() -> None:
    sizes = {"a": 3, "b": 4, "c": 9, "d": 5, "e": 2}
    assert group(sizes, 7) == [("a", "b"), ("c",), ("d", "e")]


def test_progress_is_told(model: ir.Model) -> None:
    seen: list[int] = []
    calibrate(model, samples(3), ALL, spec("minmax"), resources=Resources(progress=seen.append))
    assert seen == [1, 2, 3]


class TestCache:
    def calibrated(self, model: ir.Model, folder: Path, **changes: Any) -> Any:
        options = {"feeds": samples(), "tensors": ALL, "spec": spec("percentile"), "model_digest": "m"}
        options |= changes
        return calibrate_cached(
            model,
            options["feeds"],
            options["tensors"],
            options["spec"],
            cache=Cache(folder),
            model_digest=options["model_digest"],
        )

    def test_second_time_is_a_hit_with_the_same_ranges(self, model: ir.Model, tmp_path: Path) -> None:
        first, second = self.calibrated(model, tmp_path), self.calibrated(model, tmp_path)
        assert (first.reason, second.reason) == ("absent", "hit")
        assert first.ranges == second.ranges == calibrate(model, samples(), ALL, spec("percentile")).ranges

    @pytest.mark.parametrize(
        "changes",
        [
            {"model_digest": "other"},
            {"feeds": samples(4)},
            {"spec": spec("entropy")},
            {"spec": spec("percentile", percentile=99)},
            {"tensors": ("x",)},
        ],
        ids=["model", "data", "method", "percentile", "tensors"],
    )
    def test_any_change_computes_again(self, model: ir.Model, tmp_path: Path, changes: Any) -> None:
        self.calibrated(model, tmp_path)
        assert self.calibrated(model, tmp_path, **changes).reason == "absent"

    def test_percentile_does_not_matter_to_other_methods(self, model: ir.Model, tmp_path: Path) -> None:
        self.calibrated(model, tmp_path, spec=spec("mse", percentile=99))
        assert self.calibrated(model, tmp_path, spec=spec("mse", percentile=98)).reason == "hit"

    def test_a_damaged_entry_is_computed_again_and_told(self, model: ir.Model, tmp_path: Path) -> None:
        first = self.calibrated(model, tmp_path)
        (file,) = tmp_path.rglob("calibration.json")
        data = json.loads(file.read_text())
        data["ranges"]["x"] = 1e9
        file.write_text(json.dumps(data))
        again = self.calibrated(model, tmp_path)
        assert again.reason.startswith("damaged")
        assert again.ranges == first.ranges


class TestAuto:
    def test_the_best_is_kept_and_all_are_reported(self) -> None:
        histogram = Histogram()
        histogram.add(np.random.default_rng(0).standard_t(2, 5000).astype(np.float32))
        ranges, choices = choose({"t": histogram}, 99.0, lambda r: abs(r["t"] - 10))
        assert [choice.mre for choice in choices] == sorted(choice.mre for choice in choices)
        assert abs(ranges["t"] - 10) == choices[0].mre
        assert {str(choice) for choice in choices} == {
            "minmax",
            "percentile 99",
            "percentile 99.9",
            "percentile 99.99",
            "percentile 99.999",
            "entropy",
            "mse",
        }

    def test_measured_on_a_quantized_model(self) -> None:
        proto = onnx.parser.parse_model(QUANTIZABLE)
        weight = np.random.default_rng(2).standard_normal((6, 4)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
        model, feeds = normalise(ir.from_proto(proto)), samples(8)
        for feed in feeds:
            feed["x"][0, 0] = 1e4
        feeds[-1]["x"][0, 0] = feeds[-2]["x"][0, 0] = 0
        found = calibrate(model, feeds, ["x"], spec("auto", percentile=95))
        assert found.samples == 6
        assert found.method == str(found.choices[0])
        by_name = {str(choice): choice.mre for choice in found.choices}
        assert by_name["minmax"] > 0.5 > found.choices[0].mre > 0
        assert found.ranges["x"] < 100

    def test_judging_samples_do_not_set_ranges(self) -> None:
        feeds = samples(8)
        setting, judging, warnings = split(feeds, 8)
        assert (list(setting), list(judging), warnings) == (feeds[:6], feeds[6:], ())

    def test_one_sample_does_both_and_says_so(self) -> None:
        setting, judging, warnings = split(samples(1), 1)
        assert list(setting) == list(judging)
        assert "both sets and judges" in warnings[0]


class TestSamples:
    def test_a_spool_gives_back_what_it_was_given(self) -> None:
        feeds = [
            {"a": np.array(3, np.int64), "b": np.zeros((0, 2), bool)},
            {"a": np.arange(6.0).reshape(2, 3).T},
        ]
        with Spool(feeds) as spool:
            for _ in range(2):
                for got, given in zip(spool, feeds, strict=True):
                    assert got.keys() == given.keys()
                    for name in got:
                        np.testing.assert_array_equal(got[name], given[name], strict=True)

    def test_an_iterator_becomes_rereadable(self) -> None:
        def once() -> Iterator[dict[str, np.ndarray]]:
            yield from samples(2)

        with rereadable(once()) as feeds:
            assert [len(list(feeds)) for _ in range(2)] == [2, 2]

    def test_digest_sees_values_names_types_and_shapes(self) -> None:
        base = {"x": np.zeros((2, 3), np.float32)}
        others = [
            {"y": base["x"]},
            {"x": base["x"].reshape(3, 2)},
            {"x": base["x"].view(np.int32)},
            {"x": base["x"] + 1},
        ]
        digests = {describe([feed])[0] for feed in (base, *others)}
        assert len(digests) == 5
        assert describe([base]) == describe([{"x": base["x"].copy()}])
        assert describe([base, base])[0] != describe([base])[0]
