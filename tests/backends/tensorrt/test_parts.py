"""Parts of the TensorRT backends that need no bindings: types, caches, progress, logs, versions."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.tensorrt import bindings as trt_bindings
from harness.backends.tensorrt import types as trt_types
from harness.backends.tensorrt.builder import calibration as trt_calibration
from harness.backends.tensorrt.builder.axes import attribute_axes
from harness.backends.tensorrt.builder.build import needs_native_normalisation
from harness.backends.tensorrt.builder.calibration import CalibrationTable
from harness.backends.tensorrt.builder.fence import fence
from harness.backends.tensorrt.builder.network_code import read_weights
from harness.backends.tensorrt.builder.progress import Monitor
from harness.backends.tensorrt.builder.timing import TimingCache
from harness.backends.tensorrt.library import split_version
from harness.backends.tensorrt.log import Log, Message, loud, made, words
from harness.backends.tensorrt.run.unfused import onnx_name
from harness.errors import BackendError, BackendUnavailableError, BuildError, DataError, RunError
from harness.lowering.lower import lower
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import BuildSpec
from tests.helpers.lowering import model, run
from tests.helpers.tensorrt import classifier


@pytest.mark.parametrize("name", trt_types.NUMPY)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 5)])
def test_every_type_comes_back_from_its_bytes(name: str, shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape))
    values = (np.arange(count) % 4).astype(np.float32).reshape(shape).astype(trt_types.NUMPY[name])
    data = trt_types.to_bytes(name, values)
    assert data.nbytes == trt_types.nbytes_of(name, shape)
    back = trt_types.from_bytes(name, data, shape)
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back.astype(np.float32), values.astype(np.float32))


def test_packed_types_hold_two_elements_in_a_byte_the_first_one_low() -> None:
    values = np.array([-8, 7, 3], ml_dtypes.int4)
    assert trt_types.to_bytes("INT4", values).tolist() == [0x78, 0x03]


def test_what_does_not_fit_an_input_is_refused() -> None:
    with pytest.raises(RunError, match="values do not fit INT32"):
        trt_types.fitted(np.array([2**40]), "INT32", "ids")
    assert trt_types.fitted(np.array([5]), "INT32", "ids").dtype == np.int32
    with pytest.raises(RunError, match="dtype float32, but the engine takes float16"):
        trt_types.fitted(np.ones(1, np.float32), "HALF", "x")
    with pytest.raises(RunError, match="FP1: not known"):
        trt_types.numpy_type("FP1")


names = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1).filter(str.strip)


@given(st.dictionaries(names, st.floats(0, 2.0**99, width=32), max_size=5))
def test_a_calibration_cache_comes_back(ranges: dict[str, float]) -> None:
    table = CalibrationTable("TRT-8601-EntropyCalibration2", ranges)
    back = trt_calibration.parse(trt_calibration.render(table), "x.cache")
    assert back.header == table.header
    assert back.ranges == pytest.approx(ranges, rel=1e-6, abs=1e-37)


def test_a_calibration_cache_of_tensorrt_is_read() -> None:
    table = trt_calibration.parse("TRT-100300-MinMaxCalibration\nx:0: 3c010204\n(Unnamed) [x]: 0\n", "f")
    assert table.algorithm == "MinMaxCalibration"
    assert table.ranges["x:0"] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1 = ''"),
        ("hello", "line 1 = 'hello'"),
        ("TRT-1-EntropyCalibration2\nx", "line 2 = 'x'"),
        ("TRT-1-EntropyCalibration2\nx: zz", "line 2 = 'x: zz'"),
        ("TRT-1-EntropyCalibration2\nx: 7f800000", "line 2: scale inf of 'x'"),
        ("TRT-1-EntropyCalibration2\nx: bf800000", "line 2: scale -1.0 of 'x'"),
    ],
)
def test_a_broken_calibration_cache_names_the_line(text: str, says: str) -> None:
    with pytest.raises(DataError, match=f"x.cache: {says}".replace("(", r"\(")):
        trt_calibration.parse(text, "x.cache")


@pytest.mark.parametrize(("version", "number"), [("8.6.1", 8601), ("10.3.0", 100300), ("10.13.3.9", 101303)])
def test_headers_count_as_tensorrt_does(version: str, number: int) -> None:
    assert trt_calibration.header_of(version, "entropy") == f"TRT-{number}-EntropyCalibration2"


@pytest.mark.parametrize(
    ("number", "version"),
    [(8601, (8, 6, 1)), (101303, (10, 13, 3)), (110400, (11, 4, 0)), (10701, (1, 7, 1))],
)
def test_library_versions_are_split(number: int, version: tuple[int, int, int]) -> None:
    assert split_version(number) == version


def test_progress_nests_and_survives_unknown_phases() -> None:
    steps: list[tuple[str, int, int]] = []
    monitor = Monitor(lambda *step: steps.append(step))
    monitor.phase_start("a", None, 2)
    monitor.phase_start("b", "a", 1)
    assert monitor.step_complete("b", 0)
    monitor.phase_finish("b")
    monitor.phase_finish("a")
    assert monitor.step_complete("lost", 0)
    assert steps == [("a", 0, 2), ("a/b", 0, 1), ("a/b", 1, 1), ("a/b", 1, 1), ("a", 2, 2), ("lost", 1, 1)]


def severity(name: str) -> Any:
    return SimpleNamespace(name=name)


def test_the_log_keeps_what_matters() -> None:
    log = Log()
    for name, text in [
        ("VERBOSE", "chatter"),
        ("VERBOSE", "Layers:\nName: x"),
        ("INFO", "i"),
        ("ERROR", "bad\n luck"),
    ]:
        log.log(severity(name), text)
    assert [m.severity for m in log.messages] == ["VERBOSE", "INFO", "ERROR"]
    assert words(log.messages) == "bad luck"
    assert len(log.take()) == 3
    assert words(log.messages) == "TensorRT gave no reason"


def test_a_builder_that_is_not_made_says_why() -> None:
    log = Log()

    def null(logger: Log) -> None:
        warning: Any = SimpleNamespace(name="WARNING")
        logger.log(warning, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(
        BackendError, match="does not start: WARNING: CUDA initialization failure with error: 35"
    ):
        made(null, log)


def test_warnings_are_told_once_and_noise_never() -> None:
    messages = [
        Message("WARNING", "a"),
        Message("WARNING", "a"),
        Message("INFO", "b"),
        Message("INTERNAL_ERROR", "Thread context has not been set! Using global log stream."),
    ]
    assert loud(messages) == ("WARNING: a",)


def test_old_or_odd_bindings_are_refused() -> None:
    with pytest.raises(BackendUnavailableError, match=r"TensorRT 8\.5\.3: needs 8\.6 or later"):
        trt_bindings.bindings_of("tensorrt", SimpleNamespace(__version__="8.5.3"))
    with pytest.raises(BackendUnavailableError, match="not a version"):
        trt_bindings.bindings_of("tensorrt", SimpleNamespace(__version__="new"))


def test_missing_bindings_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trt_bindings.MODULES, "tensorrt", ("no_such_module_at_all",))
    with pytest.raises(
        BackendUnavailableError, match=r"not installed: pip install .*'trt-harness\[tensorrt\]'"
    ):
        trt_bindings.load_bindings("tensorrt")


@pytest.mark.parametrize(
    ("name", "version", "strong", "weak"),
    [("tensorrt", "8.6.1", False, True), ("tensorrt", "10.3", True, True), ("tensorrt", "11.0", True, False),
     ("tensorrt_rtx", "1.7", True, False)],
)  # fmt: skip
def test_versions_say_how_networks_are_typed(name: str, version: str, strong: bool, weak: bool) -> None:
    bindings = trt_bindings.bindings_of(name, SimpleNamespace(__version__=version))
    assert (bindings.strong, bindings.weak) == (strong, weak)


@pytest.mark.parametrize(
    ("internal", "name"),
    [("r.1_15_myl0", "r"), ("m_18_myl0", "m"), ("plain", "plain"), ("a.b", "a.b"), ("x_1_myl12_3", "x")],
)
def test_fused_names_lead_back_to_onnx(internal: str, name: str) -> None:
    assert onnx_name(internal) == name


def test_weights_that_lie_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, w=np.ones(2))
    assert read_weights(path)["w"].tolist() == [1, 1]
    np.savez(path, w=np.array([object()]))
    with pytest.raises(BuildError, match=r"w\.npz: no weights"):
        read_weights(path)
    path.write_bytes(b"PK")
    with pytest.raises(BuildError, match=r"w\.npz"):
        read_weights(path)


class Timing:
    """A builder config that takes timing caches of its own version."""

    def __init__(self, accepts: bytes, measured: bytes = b"m") -> None:
        self.accepts, self.measured, self.cache = accepts, measured, b""

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return not ignore_mismatch and cache in (self.accepts, b"")

    def get_timing_cache(self) -> Any:
        held = {"data": self.cache + self.measured}

        def combine(other: bytes, _: bool) -> bool:
            held["data"] = other + self.measured if other != self.cache else held["data"]
            return True

        return SimpleNamespace(combine=combine, serialize=lambda: held["data"])


def test_timings_are_kept_and_joined(tmp_path: Path) -> None:
    cache = TimingCache.of(tmp_path / "deep", "tensorrt-10.3", "NVIDIA H200")
    assert cache.path.name == "tensorrt-10.3-NVIDIA-H200.timing"
    config: Any = Timing(b"m")
    cache.load(config)
    cache.store(config)
    assert cache.path.read_bytes() == b"m"
    other: Any = Timing(b"m", b"n")
    cache.load(other)
    cache.path.write_bytes(b"p")  # another build was faster
    cache.store(other)
    assert cache.path.read_bytes() == b"pn"


def test_a_foreign_timing_cache_is_not_taken(tmp_path: Path) -> None:
    cache = TimingCache(tmp_path / "x.timing")
    cache.path.write_bytes(b"foreign")
    config: Any = Timing(b"m")
    cache.load(config)
    assert config.cache == b""


def test_a_cache_that_tensorrt_makes_nothing_of_starts_anew(tmp_path: Path) -> None:
    """A truncated file gives None, as one of another version may."""
    cache = TimingCache(tmp_path / "x.timing")
    cache.path.write_bytes(b"trunc")
    config: Any = Timing(b"m")
    make = config.create_timing_cache
    config.create_timing_cache = lambda data: None if data == b"trunc" else make(data)
    cache.load(config)
    cache.store(config)
    assert cache.path.read_bytes() == b"m"
    config.create_timing_cache = lambda _: None
    with pytest.raises(BuildError, match="takes no timing cache"):
        cache.load(config)


@pytest.mark.parametrize(
    ("name", "version", "options", "needed"),
    [
        ("tensorrt", "8.6.1", {"version_compatible": True}, True),
        ("tensorrt", "8.6.1", {"hardware_compatibility": "ampere_plus"}, True),
        ("tensorrt", "8.6.1", {}, False),
        ("tensorrt", "10.0", {"version_compatible": True}, False),
        ("tensorrt_rtx", "1.7", {}, False),
    ],
)
def test_compatible_plans_of_8_need_the_parsers_own_instance_normalisation(
    name: str, version: str, options: dict[str, Any], needed: bool
) -> None:
    bindings = trt_bindings.bindings_of(name, SimpleNamespace(__version__=version))
    assert needs_native_normalisation(bindings, BuildSpec.model_validate(options)) == needed


def test_kept_products_are_fenced_and_nothing_else_changes() -> None:
    lowered = lower(classifier(), PrecisionPlan(Precision.FP16, ("fc", "relu")))
    fenced = fence(lowered.model)
    added = {node.name for node in fenced.graph} - {node.name for node in lowered.model.graph}
    assert added == {"m__fence/clip"}
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}
    before, after = run(lowered.model, feeds), run(fenced, feeds)
    np.testing.assert_array_equal(before["y"], after["y"])


def test_a_model_without_kept_products_is_not_copied() -> None:
    for plan in (PrecisionPlan(Precision.FP16), PrecisionPlan(Precision.FP32)):
        lowered = lower(classifier(), plan)
        assert fence(lowered.model) is lowered.model


def test_a_fence_leaves_infinities_and_nans() -> None:
    source = model(
        "g (float[4, 4] x) => (float16[4, 4] y) { m = MatMul (x, w) y = Cast <to = 10> (m) }",
        w=np.eye(4, dtype=np.float32),
    )
    x = np.array([[np.inf, 1e5, -1e-9, 3]] + [[0, 0, 0, 0]] * 3, np.float32)
    feeds = {"x": np.where(np.isinf(x), np.float32(3e38), x)}
    np.testing.assert_array_equal(run(source, feeds)["y"], run(fence(source), feeds)["y"])


def test_what_tensorrt_deprecates_can_be_used_where_it_is_asked_for() -> None:
    with trt_bindings.deprecated():
        warnings.warn("Use Deprecated in TensorRT 10.0. instead.", DeprecationWarning, stacklevel=1)
    with pytest.warns(DeprecationWarning, match="elsewhere"):
        warnings.warn("elsewhere", DeprecationWarning, stacklevel=1)


REDUCED = """g (float[N, 4, 4] x) => (float[N, 1, 1] y, float[1, 1, 1] z, float[N, 4, 1] s)
    { [mean] y = ReduceMean (x, two) [all] z = ReduceMax (x) [sum] s = ReduceSum (x, one) }"""


def test_axes_of_reductions_become_attributes_for_parsers_that_read_no_others() -> None:
    source = model(REDUCED, two=np.array([1, -1]), one=np.array([-1]))
    nodes = {node.name: node for node in attribute_axes(source).graph}
    assert [len(nodes[name].inputs) for name in ("mean", "all", "sum")] == [1, 1, 2]
    assert list(nodes["mean"].attributes["axes"].as_ints()) == [1, -1]
    assert "axes" not in nodes["all"].attributes
    assert len(next(iter(source.graph)).inputs) == 2


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ("y = ReduceMean (x, a)", "no computed axes"),
        ("y = ReduceMean <noop_with_empty_axes = 1> (x)", "over nothing"),
        ("y = Pad (x, pads, , axis)", "reads its axes from version 10 on"),
    ],
)
def test_axes_that_old_parsers_would_overlook_are_refused(node: str, says: str) -> None:
    text = f"g (float[N, 4] x, int64[1] a) => (float[M, K] y) {{ {node} }}"
    with pytest.raises(BuildError, match=says):
        attribute_axes(model(text, pads=np.array([1, 1]), axis=np.array([1])))
