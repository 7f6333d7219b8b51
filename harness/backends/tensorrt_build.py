"""From an ONNX file to a serialized engine, with everything that was said on the way.

`build` runs in whatever process calls it; the backend calls it in a child, because a builder may crash.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends import tensorrt_strong, tensorrt_weak, trt_options, trt_progress
from harness.backends.tensorrt_layers import EngineLayer, layers_from_dump
from harness.backends.tensorrt_network import (
    NetworkLayer,
    add_profiles,
    network_inputs,
    network_layers,
    network_outputs,
    parse_onnx,
)
from harness.backends.trt_bindings import Bindings, load_bindings
from harness.backends.trt_log import LAYERS, Log, create_log, loud, words
from harness.errors import BuildError
from harness.precision import Precision
from harness.spec import BuildSpec, Profile

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class BuildTask:
    """What to build from an ONNX file; plain data, so that it goes to another process.

    `kept` are the ONNX nodes that stay FP32.  Relative paths of `options` start at `base`.  `outputs` are
    intermediate tensors to mark as outputs besides the network's own.
    """

    precision: Precision
    profiles: tuple[Profile, ...]
    options: BuildSpec
    kept: tuple[str, ...] = ()
    base: Path = field(default_factory=Path)
    outputs: tuple[str, ...] = ()

    @property
    def tf32(self) -> bool:
        """Whether FP32 matrix products may round their inputs to TF32."""
        return self.options.tf32 or self.precision is Precision.TF32


@dataclass(frozen=True)
class Built:
    """What came of a build: layers of network and engine, what was said, and how long it took."""

    version: str
    network: tuple[NetworkLayer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    engine: tuple[EngineLayer, ...]
    messages: tuple[str, ...]
    duration_s: float


def build_by_name(name: str, task: BuildTask, onnx: Path, plan: Path) -> Built:
    """`build` with the bindings of that name; what a child process runs."""
    return build(load_bindings(name), task, onnx, plan)


def build(
    bindings: Bindings,
    task: BuildTask,
    onnx: Path,
    plan: Path,
    progress: trt_progress.Progress | None = None,
) -> Built:
    """Build the ONNX file `onnx` into the engine file `plan`.

    Raises BuildError with node and reason, NotHonouredError for an option that the builder changed.
    """
    log = create_log(bindings.api)
    builder = bindings.api.Builder(log)
    trt_options.load_plugins(bindings, builder.get_plugin_registry(), log, task.options.plugins, task.base)
    typing = tensorrt_weak if task.options.typing == "weak" else tensorrt_strong
    network = typing.create_network(bindings.api, builder)
    parser = bindings.api.OnnxParser(network, log)
    parse_onnx(parser, log, onnx)
    _require_outputs(network)
    config = _configure(bindings, builder, network, task, log)
    typing.constrain(bindings.api, network, config, task.precision, task.kept)
    return _serialize(bindings, builder, network, config, log, plan, progress)


def _configure(
    bindings: Bindings, builder: trt.Builder, network: trt.INetworkDefinition, task: BuildTask, log: Log
) -> trt.IBuilderConfig:
    config = builder.create_builder_config()
    trt_options.apply(bindings, builder, config, task.options, tf32=task.tf32)
    add_profiles(builder, network, config, task.profiles, log)
    mark_outputs(network, task.outputs)
    return config


def _serialize(
    bindings: Bindings,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    log: Log,
    plan: Path,
    progress: trt_progress.Progress | None,
) -> Built:
    monitor = trt_progress.watch(bindings.api, config, progress) if progress else None
    start = time.perf_counter()
    engine = builder.build_serialized_network(network, config)
    duration_s = time.perf_counter() - start
    del monitor
    if engine is None or engine.nbytes == 0:
        raise BuildError(f"{bindings} builds no engine: {words(log.messages)}")
    plan.write_bytes(engine)
    said = log.take()
    dump = next((m.text for m in reversed(said) if m.text.startswith(LAYERS)), "")
    return Built(
        str(bindings.api.__version__),
        network_layers(network),
        tuple(tensor.name for tensor in network_inputs(network)),
        tuple(tensor.name for tensor in network_outputs(network)),
        layers_from_dump(dump),
        loud(said),
        duration_s,
    )


def _require_outputs(network: trt.INetworkDefinition) -> None:
    if network.num_layers == 0 or network.num_outputs == 0:
        raise BuildError("the parser reports success, but the network is empty: is the file an ONNX model?")
    shapes = [t.name for t in map(network.get_input, range(network.num_inputs)) if t and t.is_shape_tensor]
    if shapes:
        raise BuildError(f"inputs {shapes} hold shapes: TensorRT needs ranges of their values")


def mark_outputs(network: trt.INetworkDefinition, names: Sequence[str]) -> None:
    """Mark the named tensors as outputs.  Raises BuildError for one that is absent, a shape or a bool."""
    tensors = {tensor.name: tensor for tensor in _execution_tensors(network)}
    missing = [name for name in names if name not in tensors]
    if missing:
        raise BuildError(f"cannot be outputs (absent from the network, shapes or bools): {missing[:10]}")
    for name in names:
        if not tensors[name].is_network_output:
            network.mark_output(tensors[name])


def _execution_tensors(network: trt.INetworkDefinition) -> list[trt.ITensor]:
    layers = [layer for i in range(network.num_layers) if (layer := network.get_layer(i)) is not None]
    outputs = [layer.get_output(i) for layer in layers for i in range(layer.num_outputs)]
    return [t for t in outputs if t is not None and not t.is_shape_tensor and t.dtype.name != "BOOL"]
