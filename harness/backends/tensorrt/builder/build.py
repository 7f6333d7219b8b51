"""From an ONNX file to a serialized engine, with everything that was said on the way.

`build` runs in whatever process calls it; the backend calls it in a child, because a builder may crash.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.base import CalibrationData
from harness.backends.cuda.device import Device
from harness.backends.relay import Progress
from harness.backends.tensorrt import options as trt_options
from harness.backends.tensorrt.bindings import Bindings, deprecated, load_bindings
from harness.backends.tensorrt.builder import progress as trt_progress
from harness.backends.tensorrt.builder import strong as tensorrt_strong
from harness.backends.tensorrt.builder import weak as tensorrt_weak
from harness.backends.tensorrt.builder.mark import Marking, mark_tensors
from harness.backends.tensorrt.builder.network_code import call_network_code
from harness.backends.tensorrt.builder.timing import TimingCache
from harness.backends.tensorrt.dump import layers_from_dump
from harness.backends.tensorrt.layers import EngineLayer
from harness.backends.tensorrt.log import LAYERS, Log, create_log, loud, made, words
from harness.backends.tensorrt.network import (
    NetworkLayer,
    add_profiles,
    network_inputs,
    network_layers,
    network_outputs,
    parse_onnx,
)
from harness.errors import BuildError
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec, Profile

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class NetworkCode:
    """A function `file.py:function` that builds a network, and the npz file of its weights."""

    function: str
    weights: Path | None = None


@dataclass(frozen=True)
class BuildTask:
    """What to build from an ONNX file; plain data, so that it goes to another process.

    `kept` are the ONNX nodes that stay FP32.  Relative paths of `options` start at `base`.  `outputs` are
    intermediate tensors to mark, as `marking` says.  `network` builds the network in the place of the file.
    `barred` are ONNX nodes whose names hold a bar, which parsers put behind a node's name; `inner` tensors
    inside loops and branches.
    """

    precision: Precision
    profiles: tuple[Profile, ...]
    options: BuildSpec
    kept: tuple[str, ...] = ()
    base: Path = field(default_factory=Path)
    outputs: tuple[str, ...] = ()
    marking: Marking = "marked outputs"
    network: NetworkCode | None = None
    barred: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()

    @property
    def tf32(self) -> bool:
        """Whether FP32 matrix products may round their inputs to TF32."""
        return self.options.tf32 or self.precision is Precision.TF32


@dataclass(frozen=True)
class Built:
    """What came of a build: layers of network and engine, what was said, and how long it took.

    `unread`: what was said of the engine's layers in a form that is not known.
    """

    version: str
    network: tuple[NetworkLayer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    engine: tuple[EngineLayer, ...]
    messages: tuple[str, ...]
    duration_s: float
    calibration: str = ""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Aids:
    """What a build may use besides its task; neither data nor devices cross processes."""

    progress: Progress | None = None
    calibration: CalibrationData | None = None
    device: Device | None = None
    timing_cache: TimingCache | None = None


@dataclass(frozen=True)
class _Site:
    """A network and what builds it; a parser must not outlive its network, nor that its builder.

    `weights` are those that the network only points at.
    """

    bindings: Bindings
    log: Log
    builder: trt.Builder
    network: trt.INetworkDefinition
    config: trt.IBuilderConfig
    weights: object


def build_by_name(name: str, task: BuildTask, onnx: Path, plan: Path, aids: Aids) -> Built:
    """`build` with the bindings of that name; what a child process runs."""
    return build(load_bindings(name), task, onnx, plan, aids)


def build(bindings: Bindings, task: BuildTask, onnx: Path, plan: Path, aids: Aids | None = None) -> Built:
    """Build the ONNX file `onnx` into the engine file `plan`.

    Raises BuildError with node and reason, NotHonouredError for an option that the builder changed.
    """
    with deprecated() if task.options.typing == "weak" else contextlib.nullcontext():
        return _build(bindings, task, onnx, plan, aids or Aids())


def _build(bindings: Bindings, task: BuildTask, onnx: Path, plan: Path, aids: Aids) -> Built:
    log = create_log(bindings.api)
    builder = made(bindings.api.Builder, log)
    trt_options.load_plugins(bindings, builder.get_plugin_registry(), log, task.options.plugins, task.base)
    typing = tensorrt_weak if task.options.typing == "weak" else tensorrt_strong
    network = typing.create_network(bindings.api, builder)
    weights = _fill(bindings, network, log, task, onnx)
    site = _Site(bindings, log, builder, network, builder.create_builder_config(), weights)
    _configure(site, task)
    typing.constrain(bindings.api, network, site.config, task.precision, task.kept, task.barred)
    return _serialize(site, task, plan, aids)


def _fill(
    bindings: Bindings, network: trt.INetworkDefinition, log: Any, task: BuildTask, onnx: Path
) -> object:
    """Layers from the task's function or from the file; what must be kept until they are built."""
    weights: object = None
    if task.network is not None:
        code = task.network
        weights = call_network_code(bindings.api, network, code.function, code.weights, task.base)
    else:
        parser = bindings.api.OnnxParser(network, log)
        if needs_native_normalisation(bindings, task.options):
            parser.set_flag(bindings.api.OnnxParserFlag.NATIVE_INSTANCENORM)
        parse_onnx(parser, log, onnx)
    _require_outputs(network, task.network)
    return weights


def needs_native_normalisation(bindings: Bindings, options: BuildSpec) -> bool:
    """Whether the parser must be told to leave out its plugin for InstanceNormalization.

    TensorRT before 10 puts one in by itself, and builds no compatible plan with it.
    """
    compatible = options.version_compatible or options.hardware_compatibility is not None
    return compatible and bindings.version < (10, 0) and not bindings.rtx


def _configure(site: _Site, task: BuildTask) -> None:
    trt_options.apply(site.bindings, site.builder, site.config, task.options, tf32=task.tf32)
    add_profiles(site.builder, site.network, site.config, task.profiles, site.log)
    mark_tensors(site.network, task.outputs, task.marking)


def _serialize(site: _Site, task: BuildTask, plan: Path, aids: Aids) -> Built:
    api = site.bindings.api
    monitor = trt_progress.watch(api, site.config, aids.progress) if aids.progress else None
    calibrator = _calibrator(site, task, aids)
    timing = aids.timing_cache if task.options.timing_cache else None
    if timing is not None:
        timing.load(site.config)
    start = time.perf_counter()
    engine = site.builder.build_serialized_network(site.network, site.config)
    duration_s = time.perf_counter() - start
    if calibrator is not None and calibrator.error is not None:
        raise BuildError(f"calibration: {calibrator.error}") from calibrator.error
    if engine is None or engine.nbytes == 0:
        raise BuildError(f"{site.bindings} builds no engine: {words(site.log.messages)}")
    plan.write_bytes(engine)
    if timing is not None:
        timing.store(site.config)
    built = _built(site, task, duration_s, calibrator.written if calibrator else "")
    failed = monitor.error if monitor is not None else None
    told = (f"WARNING: the progress of the build was not told to its end: {failed}",) if failed else ()
    return replace(built, messages=(*built.messages, *told))


def _calibrator(site: _Site, task: BuildTask, aids: Aids) -> Any:
    if task.options.typing == "strong" or not task.precision.quantized:
        return None
    file = task.options.calibration_cache
    cache = task.base / file if file is not None else None
    return tensorrt_weak.calibrate(
        site.bindings.api, site.builder, site.network, site.config, task.profiles[0],
        aids.calibration, aids.device, cache,
    )  # fmt: skip


def _built(site: _Site, task: BuildTask, duration_s: float, calibration: str) -> Built:
    said = site.log.take()
    dump = next((m.text for m in reversed(said) if m.text.startswith(LAYERS)), "")
    listed = layers_from_dump(dump, task.barred)
    return Built(
        str(site.bindings.api.__version__),
        network_layers(site.network, task.barred),
        tuple(tensor.name for tensor in network_inputs(site.network)),
        tuple(tensor.name for tensor in network_outputs(site.network)),
        listed.layers,
        loud(said),
        duration_s,
        calibration,
        listed.unread,
    )


def _require_outputs(network: trt.INetworkDefinition, code: NetworkCode | None) -> None:
    if network.num_layers == 0 or network.num_outputs == 0:
        parsed = "the parser reports success, but the network is empty: is the file an ONNX model?"
        raise BuildError(f"{code.function} gave the network no layers or outputs" if code else parsed)
    shapes = [t.name for t in map(network.get_input, range(network.num_inputs)) if t and t.is_shape_tensor]
    if shapes:
        raise BuildError(f"inputs {shapes} hold shapes: TensorRT needs ranges of their values")
