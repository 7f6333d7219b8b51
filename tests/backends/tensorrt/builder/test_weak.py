"""Weak typing on doubles of network, builder and calibrators with the members of TensorRT 8.6 to 10.x."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.backends.base import CalibrationData
from harness.backends.tensorrt.bindings import bindings_of
from harness.backends.tensorrt.builder import weak as tensorrt_weak
from harness.backends.tensorrt.options import refusal
from harness.errors import DataError, NotHonouredError
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec
from tests.helpers.tensorrt import SMALL
from tests.helpers.trt_double import HostDevice


def enum(*names: str) -> Any:
    members = {name: SimpleNamespace(name=name, value=index) for index, name in enumerate(names)}
    return SimpleNamespace(**members, __members__=members)


class Interface:
    """A class of TensorRT's that is subclassed."""


API: Any = SimpleNamespace(
    __version__="10.3.0",
    BuilderFlag=enum("FP16", "INT8", "BF16", "TF32", "OBEY_PRECISION_CONSTRAINTS"),
    DataType=enum("FLOAT", "HALF", "INT8"),
    MemoryPoolType=enum("WORKSPACE"),
    HardwareCompatibilityLevel=enum("NONE", "AMPERE_PLUS"),
    PreviewFeature=enum("PROFILE_SHARING_0806"),
    NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0),
    IInt8EntropyCalibrator2=Interface,
    IInt8MinMaxCalibrator=type("MinMax", (), {}),
)


class Config:
    """IBuilderConfig: flags in a set; `drops` are those that it forgets."""

    def __init__(self, drops: str = "", takes_profile: bool = True, shares: bool = True) -> None:
        self.flags: set[str] = set()
        self.drops, self.takes_profile, self.features = drops, takes_profile, {"PROFILE_SHARING_0806": shares}
        self.int8_calibrator: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags |= {flag.name} - {self.drops}

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self.flags

    def get_preview_feature(self, feature: Any) -> bool:
        return self.features[feature.name]

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        assert not self.features[feature.name], "deprecated where it is on already"
        self.features[feature.name] = enable

    def set_calibration_profile(self, profile: Any) -> bool:
        return self.takes_profile and bool(profile.shapes)


class Layer:
    """ILayer with one input and one output; with constraints obeyed, only one that takes FP32 builds."""

    num_inputs = num_outputs = 1

    def __init__(
        self, node: str, kind: str, dtype: str = "FLOAT", given: str = "FLOAT", keeps: bool = True
    ) -> None:
        self.name, self.metadata = f"{node}!", f"[ONNX Layer: {node}]"
        self.type = SimpleNamespace(name=kind)
        self.input, self.output = tensor(given), tensor(dtype)
        self.keeps, self.output_types, self._precision = keeps, [], None

    @property
    def precision(self) -> Any:
        return self._precision

    @precision.setter
    def precision(self, value: Any) -> None:
        self._precision = value if self.keeps else None

    @property
    def precision_is_set(self) -> bool:
        return self._precision is not None

    def get_input(self, _: int) -> Any:
        return self.input

    def get_output(self, _: int) -> Any:
        return self.output

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.output_types.append((index, dtype.name))


def tensor(dtype: str) -> Any:
    """ITensor of a type; a `SHAPE` is INT64 and no execution tensor."""
    shape = dtype == "SHAPE"
    kind = SimpleNamespace(name="INT64" if shape else dtype)
    return SimpleNamespace(name="t", dtype=kind, is_execution_tensor=not shape, is_shape_tensor=shape)


def network(*layers: Layer) -> Any:
    dtype = SimpleNamespace(name="FLOAT")
    inputs = [SimpleNamespace(name="x", dtype=dtype, shape=(-1, 3, -1, -1), is_shape_tensor=False)]
    return SimpleNamespace(
        num_layers=len(layers),
        get_layer=lambda index: layers[index],
        num_inputs=1,
        get_input=lambda index: inputs[index],
    )


@pytest.mark.parametrize(
    ("precision", "flags"),
    [
        (Precision.FP32, set()),
        (Precision.FP16, {"FP16"}),
        (Precision.BF16, {"BF16"}),
        (Precision.INT8, {"INT8"}),
        (Precision.INT8_FP16, {"INT8", "FP16"}),
    ],
)
def test_a_precision_sets_its_flags(precision: Precision, flags: set[str]) -> None:
    config: Any = Config()
    tensorrt_weak.constrain(API, network(), config, precision, ())
    assert config.flags == flags


def test_kept_nodes_are_held_in_fp32_and_constraints_obeyed() -> None:
    layers = [Layer("fc", "MATRIX_MULTIPLY"), Layer("fc", "CONSTANT"), Layer("relu", "ACTIVATION")]
    config: Any = Config()
    tensorrt_weak.constrain(API, network(*layers), config, Precision.FP16, ("fc",))
    assert [layer.precision_is_set for layer in layers] == [True, False, False]
    assert layers[0].output_types == [(0, "FLOAT")]
    assert config.flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}


def test_integer_outputs_of_kept_nodes_keep_their_type() -> None:
    layer = Layer("argmax", "TOPK", "INT32")
    tensorrt_weak.hold_fp32(API, network(layer), ["argmax"])
    assert layer.output_types == []


@pytest.mark.parametrize(
    ("given", "gives", "held"),
    [
        ("FLOAT", "BOOL", True),  # a comparison
        ("BOOL", "FLOAT", True),
        ("INT32", "INT32", False),
        ("INT32", "BOOL", False),
        ("SHAPE", "SHAPE", False),
        ("SHAPE", "FLOAT", False),  # a tensor filled to a shape
    ],
)
def test_only_layers_that_compute_with_floats_are_held(given: str, gives: str, held: bool) -> None:
    layer = Layer("node", "ELEMENTWISE", gives, given)
    assert tensorrt_weak.hold_fp32(API, network(layer), ["node"]) == (["node!"] if held else [])
    assert layer.precision_is_set is held


def test_plugins_of_every_version_choose_their_types() -> None:
    layers = [Layer("node", kind) for kind in ("PLUGIN", "PLUGIN_V2", "PLUGIN_V3")]
    assert tensorrt_weak.hold_fp32(API, network(*layers), ["node"]) == []


def test_a_layer_that_does_not_take_fp32_is_told() -> None:
    with pytest.raises(NotHonouredError, match="layer 'fc!': asked for FP32, TensorRT made it None"):
        tensorrt_weak.hold_fp32(API, network(Layer("fc", "MATRIX_MULTIPLY", keeps=False)), ["fc"])


@pytest.mark.parametrize("shares", [False, True])  # TensorRT 8.6, and later
def test_contexts_can_share_a_profile(shares: bool) -> None:
    config: Any = Config(shares=shares)
    tensorrt_weak.constrain(API, network(), config, Precision.FP32, ())
    assert config.features == {"PROFILE_SHARING_0806": True}


def test_a_flag_that_is_missing_or_dropped_is_told() -> None:
    lacking = SimpleNamespace(**{**vars(API), "BuilderFlag": enum("FP16")})
    config: Any = Config()
    with pytest.raises(NotHonouredError, match=r"bf16: TensorRT 10\.3\.0 has no flag BF16"):
        tensorrt_weak.constrain(lacking, network(), config, Precision.BF16, ())
    dropping: Any = Config(drops="FP16")
    with pytest.raises(NotHonouredError, match="fp16: the builder dropped flag FP16"):
        tensorrt_weak.constrain(API, network(), dropping, Precision.FP16, ())


class Shapes:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> None:
        self.shapes[name] = (low, usual, high)


def calibrator(
    data: CalibrationData | None, device: HostDevice | None = None, cache: Path | None = None, **config: Any
) -> Any:
    builder: Any = SimpleNamespace(create_optimization_profile=Shapes)
    settings: Any = Config(**config)
    return tensorrt_weak.calibrate(API, builder, network(), settings, SMALL, data, device, cache)


def batches(count: int, name: str = "x") -> CalibrationData:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 3, 16, 16)).astype(np.float32) for _ in range(count)]
    return CalibrationData("entropy", lambda: ({name: array} for array in arrays), 2)


def test_batches_go_to_the_device_in_order() -> None:
    device = HostDevice()
    found = calibrator(batches(2), device)
    expected = [batch["x"] for batch in batches(2).batches()]
    for values in expected:
        (pointer,) = found.get_batch(["x"])
        np.testing.assert_array_equal(device.memory_of[pointer].view(np.float32), values.reshape(-1))
    assert found.get_batch(["x"]) is None
    assert found.get_batch_size() == 2
    assert isinstance(found, Interface)


def test_a_missing_input_ends_calibration_with_an_error() -> None:
    found = calibrator(batches(1, "other"), HostDevice())
    assert found.get_batch(["x"]) is None
    assert "calibration data has no input 'x'" in str(found.error)


def test_what_tensorrt_writes_is_kept() -> None:
    found = calibrator(batches(1), HostDevice())
    assert found.read_calibration_cache() is None
    found.write_calibration_cache(memoryview(b"TRT-100300-EntropyCalibration2\nx: 3c010204\n"))
    assert found.written.startswith("TRT-100300")


def test_a_calibration_cache_is_given_instead_of_data(tmp_path: Path) -> None:
    cache = tmp_path / "x.cache"
    cache.write_text("TRT-100300-EntropyCalibration2\nx: 3c010204\n")
    found = calibrator(batches(0), None, cache)
    assert found.read_calibration_cache() == cache.read_bytes()
    cache.write_text("TRT-100300-MinMaxCalibration\nx: 3c010204\n")
    with pytest.raises(DataError, match="made by MinMaxCalibration, but the spec asks for entropy"):
        calibrator(batches(0), None, cache)


def test_calibration_without_a_gpu_is_told() -> None:
    found = calibrator(batches(1))
    assert found.get_batch(["x"]) is None
    assert isinstance(found.error, NotHonouredError)


def test_methods_and_profiles_that_are_not_taken_are_told() -> None:
    odd = CalibrationData("percentile", lambda: ())
    with pytest.raises(NotHonouredError, match="has entropy and minmax"):
        calibrator(odd)
    with pytest.raises(NotHonouredError, match="needs calibration data"):
        calibrator(None)
    with pytest.raises(NotHonouredError, match="calibration profile"):
        calibrator(batches(0), takes_profile=False)


@pytest.mark.parametrize(
    ("version", "typing", "says"),
    [
        ("11.0", "weak", "uses flags and calibrators that are gone"),
        ("10.3", "weak", None),
        ("10.3", "strong", None),
        ("8.6.1", "strong", 'set typing = "weak"'),
        ("8.6.1", "weak", None),
    ],
)
def test_typing_is_refused_where_it_does_not_exist(version: str, typing: Any, says: str | None) -> None:
    api = SimpleNamespace(**{**vars(API), "__version__": version})
    found = refusal(bindings_of("tensorrt", api), Precision.FP16, BuildSpec(typing=typing))
    assert (found is None) if says is None else (says in str(found))
