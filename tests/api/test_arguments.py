"""What the public functions take, and what they say of what they do not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import harness
from harness.api import sources
from harness.data.override import Override, parse_shape, parse_tolerance
from harness.precision import TOLERANCES, Precision
from harness.spec.file import write_spec
from tests.helpers.project import write_case, write_model
from tests.helpers.specs import made_spec

X = np.random.default_rng(0).uniform(0.5, 1, (16, 4)).astype(np.float32)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """An ONNX file, with a cache of its own."""
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path / "cache"))
    write_model(tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_model_is_a_path_a_spec_or_in_memory(model, tmp_path):
    spec = write_case(tmp_path / "case")
    kinds = [model, str(model), onnx.load(model), ir.load(model), spec, spec.parent, harness.read_spec(spec)]
    for kind in kinds:
        lowered = harness.lower(kind, "fp16")
        assert any(node.name for node in lowered.model.graph)
        assert lowered.plan.precision == "fp16"


def test_data_are_what_int8_is_calibrated_on(model):
    small, large = (
        harness.calibrate(model, {"x": X * scale}, method="minmax").ranges["x"] for scale in (1, 10)
    )
    assert small == pytest.approx(float(np.abs(X).max()))
    assert large == pytest.approx(10 * small)


def test_a_search_and_layers_take_the_same(model):
    found = harness.search_fp32(model, "fp16", backend="onnxruntime", data={"x": X}, tolerance=1e-2)
    assert found.found
    assert found.by_mre
    layers = harness.compare_layers(model, Precision.FP16, backend="onnxruntime", data={"x": X})
    assert [layer.place.tensor for layer in layers.layers] == ["h", "y"]
    assert "mre" in harness.explain(layers, label="net")


WRONG = [
    (lambda m: harness.lower(m, "fp17"), "precision = 'fp17': must be one of fp32, "),
    (lambda m: harness.lower(m, "fp16", fp32_nodes=["nope"]), "names what no node matches: 'nope'"),
    (lambda m: harness.lower(m, "fp16", fp32_nodes="matmul"), "must be a list of names or globs"),
    (lambda m: harness.lower(m.with_suffix(".nope.onnx"), "fp16"), "no such file"),
    (lambda _: harness.lower(3, "fp16"), "model = 3: must be an ONNX file or spec by path"),
    (lambda m: harness.calibrate(m, {"z": X}), "holds no array for the input 'x', but 'z'"),
    (lambda m: harness.calibrate(m, {"x": ["a"]}), "must be an array of numbers"),
    (lambda m: harness.calibrate(m, method="magic"), "method = 'magic': must be one of minmax"),
    (lambda m: harness.calibrate(m, percentile=3.0), "percentile"),
    (lambda m: harness.validate(m, checks=["all"]), "checks = 'all': must be one of accuracy"),
    (lambda m: harness.validate(m, precisions=["fp32", "x"]), "precision = 'x'"),
    (lambda m: harness.validate(m, shapes={"z": (1, 4)}), "no such input; the inputs are 'x'"),
    (lambda m: harness.validate(m, shapes={"x": (1, (2, 4))}), "one shape, or three: min, opt, max"),
    (lambda m: harness.validate(m, tolerance=-1), "tolerance = -1"),
    (lambda m: harness.validate(m, backend="cuda"), "must be one of auto, onnxruntime"),
    (lambda m: harness.open_engine(m.parent / "nothing"), "no such folder of an engine"),
    (lambda _: harness.compare([1.0], [1.0], float("nan")), "tolerance = nan"),
    (lambda _: harness.compare(["a"], ["b"]), "cannot be compared"),
]


@pytest.mark.parametrize(("call", "says"), WRONG, ids=[says for _, says in WRONG])
def test_a_mistake_is_one_line(model, call, says):
    with pytest.raises(harness.UsageError) as raised:
        call(model)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_arrays_are_compared_by_name_or_alone():
    assert harness.compare({"y": X}, {"y": X}).quality
    assert [fault.kind for fault in harness.compare({"z": X}, {"y": X}).faults] == ["missing", "extra"]
    assert not harness.compare(X, X * 1.01, precision="fp16").quality
    assert harness.compare(X, X * 1.01, precision="int8").quality
    assert harness.compare(X, X * 1.01, harness.Tolerance(1e-2, 2e-2)).quality


@pytest.mark.parametrize("spoil", ["row", "element", "nan", "shape", "zero"])
def test_assert_close_fails_as_compare_does(spoil):
    wrong = {"row": X[[1, 0, *range(2, 16)]] + 0, "shape": X[:3], "zero": X * 0}.get(spoil, X.copy())
    if spoil == "element":
        wrong[3, 2] = 9.0
    if spoil == "nan":
        wrong[3, 2] = np.nan
    with pytest.raises(AssertionError, match=r"^mine: "):
        harness.assert_close(wrong, X, err_msg="mine")
    harness.assert_close(X, X)


def test_shapes_and_tolerances_are_read_from_words():
    assert parse_shape("x=1x3") == ("x", ((1, 3),) * 3)
    assert parse_shape("a=b=:2:3") == ("a=b", ((), (2,), (3,)))
    assert parse_tolerance("1e-3").limit == 1e-3
    assert parse_tolerance("limit=5e-3, row=0.1").row == 0.1
    for text in ("x", "=1xa", "x=1:2", "1x3", "x=-1"):
        with pytest.raises(harness.UsageError, match="--trt-shape"):
            parse_shape(text)
    for text in ("", "big", "row=1", "limit=0", "limit=1,colour=2", "inf", "limit=1e-3,expected=1e-2"):
        with pytest.raises(harness.UsageError, match="olerance"):
            parse_tolerance(text)


def test_an_override_changes_what_it_names_alone(tmp_path):
    spec, file = made_spec(), tmp_path / "x.npy"
    np.save(file, np.ones((3, 4), np.float32))
    shaped = Override(shapes={"x": ((1, 4), (3, 4), (9, 4))}).applied(spec)
    assert (shaped.profiles[0].shapes["x"].opt, shaped.precisions) == ((3, 4), spec.precisions)
    fed = Override(data=file).applied(spec)
    assert fed.inputs["x"].data.npy == str(file)
    assert fed.profiles == spec.profiles
    assert Override(data=file).applied(spec, drafted=True).profiles[0].shapes["x"].max == (4, 4)
    judged = Override(tolerance=parse_tolerance("1e-4")).applied(spec)
    assert judged.tolerance(Precision.FP16) == harness.Tolerance(1e-4, 1e-4)
    assert judged.tolerance(Precision.FP32).expected == TOLERANCES[Precision.FP32].expected
    assert Override().applied(spec) is spec


def test_a_number_is_a_limit_and_a_tolerance_is_taken_whole():
    assert sources.terms_of("fp16", 1e-2).tolerance == harness.Tolerance(1e-3, 1e-2)
    own = harness.Tolerance(1e-4, 1e-3, row=0.2)
    assert sources.terms_of("fp16", own).tolerance == own
    assert sources.terms_of("int8", None).tolerance == TOLERANCES[Precision.INT8]


def test_a_spec_changed_in_memory_is_validated_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path / "cache"))
    spec = harness.read_spec(write_case(tmp_path / "case", precisions=("fp32", "fp16")))
    changed = spec.model_copy(update={"precisions": (Precision.FP32,)})
    report = harness.validate(changed, backend="onnxruntime", checks=["outputs", "accuracy"])
    assert report.verdicts == {"fp32": "pass"}
    assert {record.kind for record in report.records} == {"outputs", "accuracy"}
    strict = harness.validate(
        spec, precisions="fp16", backend="onnxruntime", tolerance=1e-9, checks=["outputs"]
    )
    assert not strict
    assert strict.verdicts == {"fp16": "precision-limited"}
    assert "mre" in strict.explain()


def test_axes_with_names_stay_so(tmp_path):
    axes = {"n": {"min": 1, "opt": 2, "max": 4}}
    profile = {"axes": axes, "shapes": {"x": ["n", 4]}}
    spec = made_spec(profiles=[profile], model={"onnx": str(tmp_path / "model.onnx")})
    write_model(tmp_path / "model.onnx")
    judged = Override(tolerance=parse_tolerance("1e-4"), precisions=(Precision.FP16,)).applied(spec)
    assert judged.profiles[0].axes == spec.profiles[0].axes
    again = harness.read_spec(write_spec(judged, tmp_path / "spec.toml"))
    assert again.profiles[0].axes == spec.profiles[0].axes
    assert again.profiles[0].shapes["x"].dims == ("n", 4)
    assert again.model_dump() == judged.model_dump()
