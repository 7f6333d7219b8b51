"""What a loaded engine says of itself: layers, inputs and outputs, profiles, memory.

Unverified on TensorRT hardware; the schemas of layers are those of 8.6 to 11.x and of TensorRT-RTX 1.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.tensorrt.layers import EngineLayer, layers_from_json
from harness.backends.tensorrt.run.ports import Port, ports
from harness.errors import RunError

if TYPE_CHECKING:
    import tensorrt as trt

MEMORY = ("device_memory_size_v2", "device_memory_size")  # from 10.1 on, and before


@dataclass(frozen=True)
class EngineFacts:
    """An engine as data; `memory_bytes` is the device memory of one context."""

    name: str
    layers: tuple[EngineLayer, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    profiles: int
    memory_bytes: int


def inspect_engine(
    api: trt.Module,
    engine: trt.ICudaEngine,
    context: trt.IExecutionContext | None = None,
    barred: Sequence[str] = (),
) -> EngineFacts:
    """Everything the engine tells, of dynamic shapes only with a `context` that has them.

    `barred`: names of ONNX nodes that hold a bar.  Raises BuildError if its layers cannot be read, RunError.
    """
    inputs, outputs = ports(api, engine)
    memory = next(getattr(engine, name) for name in MEMORY if hasattr(engine, name))
    layers = engine_layers(api, engine, context, barred)
    return EngineFacts(engine.name, layers, inputs, outputs, engine.num_optimization_profiles, int(memory))


def engine_layers(
    api: trt.Module, engine: trt.ICudaEngine, context: trt.IExecutionContext | None, barred: Sequence[str]
) -> tuple[EngineLayer, ...]:
    """The engine's layers; names alone if it was built without detailed verbosity."""
    inspector = engine.create_engine_inspector()
    if inspector is None:
        raise RunError("TensorRT gives no engine inspector")
    if context is not None:
        inspector.execution_context = context
    return layers_from_json(inspector.get_engine_information(api.LayerInformationFormat.JSON), barred)
