"""Weakly typed networks, TensorRT 8.6 to 10.x: flags and layer precisions carry the plan.

The plan is laid on the network that comes from the normalised FP32 graph.  Unverified on TensorRT hardware:
checked against the bindings of 8.6 to 10.16 by type, and for behaviour against a double.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.base import CalibrationData
from harness.backends.cuda.device import Device
from harness.backends.tensorrt.builder.calibrator import create_calibrator
from harness.backends.tensorrt.network import network_inputs, node_of
from harness.errors import NotHonouredError
from harness.precision import Precision
from harness.spec.model_spec import Profile

if TYPE_CHECKING:
    import tensorrt as trt

FLAGS: dict[Precision, tuple[str, ...]] = {
    Precision.FP32: (),
    Precision.TF32: (),
    Precision.FP16: ("FP16",),
    Precision.BF16: ("BF16",),
    Precision.INT8: ("INT8",),
    Precision.INT8_FP16: ("INT8", "FP16"),
}
# Layers that move or make data in whatever type it has: TensorRT refuses a precision on most of them.
UNTYPED = (
    "CONSTANT",
    "SHAPE",
    "CAST",
    "IDENTITY",
    "QUANTIZE",
    "DEQUANTIZE",
    "PLUGIN",
    "PLUGIN_V2",
    "PLUGIN_V3",
    "CONDITION",
)


def create_network(api: trt.Module, builder: trt.Builder) -> trt.INetworkDefinition:
    """An empty network with an explicit batch, in which TensorRT chooses types."""
    return builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))


def constrain(
    api: trt.Module,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    precision: Precision,
    kept: Sequence[str],
    barred: Sequence[str] = (),
) -> None:
    """Allow what `precision` needs, and hold the ONNX nodes `kept` in FP32.

    `barred`: names of ONNX nodes that hold a bar.

    Raises NotHonouredError for a flag that this TensorRT lacks or drops, and for a kept node whose layers
    do not take FP32.
    """
    for name in FLAGS[precision]:
        flag = api.BuilderFlag.__members__.get(name)
        if flag is None:
            raise NotHonouredError(f"{precision}: TensorRT {api.__version__} has no flag {name}")
        config.set_flag(flag)
        if not config.get_flag(flag):
            raise NotHonouredError(f"{precision}: the builder dropped flag {name}")
    if hold_fp32(api, network, kept, barred):
        config.set_flag(api.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    _share_profiles(api, config)


def _share_profiles(api: trt.Module, config: trt.IBuilderConfig) -> None:
    """Let several contexts have one profile, as device runs beside others need; later versions always do."""
    feature = api.PreviewFeature.__members__.get("PROFILE_SHARING_0806")
    if feature is not None and not config.get_preview_feature(feature):
        config.set_preview_feature(feature, True)


def hold_fp32(
    api: trt.Module, network: trt.INetworkDefinition, kept: Sequence[str], barred: Sequence[str] = ()
) -> list[str]:
    """Set FP32 on every layer of the ONNX nodes `kept` that computes with floats; the layers' names."""
    held = []
    for layer in _kept_layers(network, set(kept), barred):
        layer.precision = api.DataType.FLOAT
        for index in range(layer.num_outputs):
            if _floats(layer.get_output(index)):
                layer.set_output_type(index, api.DataType.FLOAT)
        if not layer.precision_is_set or layer.precision != api.DataType.FLOAT:
            raise NotHonouredError(
                f"layer {layer.name!r}: asked for FP32, TensorRT made it {layer.precision}"
            )
        held.append(layer.name)
    return held


def _kept_layers(
    network: trt.INetworkDefinition, kept: set[str], barred: Sequence[str]
) -> Iterator[trt.ILayer]:
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer is None or layer.type.name in UNTYPED:
            continue
        if node_of(layer.metadata, barred) in kept and _computes_floats(layer):
            yield layer


def _computes_floats(layer: trt.ILayer) -> bool:
    """Whether FP32 means anything to a layer; with constraints obeyed, no integer or shape layer has it."""
    inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
    if inputs and inputs[0] is not None and inputs[0].is_shape_tensor:
        return False
    return any(map(_floats, (*inputs, *map(layer.get_output, range(layer.num_outputs)))))


def _floats(tensor: trt.ITensor | None) -> bool:
    return tensor is not None and tensor.is_execution_tensor and tensor.dtype.name in ("FLOAT", "HALF")


def calibrate(
    api: trt.Module,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    profile: Profile,
    data: CalibrationData | None,
    device: Device | None,
    cache: Path | None,
) -> Any:
    """Set a calibrator on `config`, fed at the opt shapes of `profile`; keep it alive while it builds.

    `cache`: a calibration cache of TensorRT's to use instead of data.  Raises NotHonouredError.
    """
    if data is None:
        raise NotHonouredError('INT8 with typing = "weak" needs calibration data')
    dtypes = {tensor.name: tensor.dtype for tensor in network_inputs(network)}
    calibrator = create_calibrator(api, data, device, dtypes, cache)
    config.int8_calibrator = calibrator
    shapes = builder.create_optimization_profile()
    for name, part in profile.shapes.items():
        shapes.set_shape(name, part.opt, part.opt, part.opt)
    if not config.set_calibration_profile(shapes):
        raise NotHonouredError("TensorRT does not take the calibration profile")
    return calibrator
