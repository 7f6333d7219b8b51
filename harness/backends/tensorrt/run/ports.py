"""The inputs and outputs of an engine as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.base import TensorInfo
from harness.backends.tensorrt import types as trt_types
from harness.backends.tensorrt.errors import Range
from harness.spec.model_spec import Shape

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class Port:
    """One input or output of an engine: TensorRT dtype name, shape (-1 where dynamic), and where it lives.

    `ranges` holds an input's smallest, usual and largest shape in each profile.
    """

    name: str
    dtype: str
    shape: Shape
    on_host: bool
    ranges: tuple[Range, ...] = ()

    def info(self) -> TensorInfo:
        """The same in the words of the backend protocol."""
        shape = tuple(None if size < 0 else size for size in self.shape)
        return TensorInfo(self.name, str(trt_types.numpy_type(self.dtype)), shape)


def ports(api: trt.Module, engine: trt.ICudaEngine) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The engine's inputs and outputs, each in the engine's order."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    modes = {name: engine.get_tensor_mode(name) for name in names}
    mode = api.TensorIOMode
    inputs = tuple(_port(api, engine, name, is_input=True) for name in names if modes[name] == mode.INPUT)
    outputs = tuple(_port(api, engine, name, is_input=False) for name in names if modes[name] == mode.OUTPUT)
    return inputs, outputs


def _port(api: trt.Module, engine: trt.ICudaEngine, name: str, *, is_input: bool) -> Port:
    on_host = engine.get_tensor_location(name) == api.TensorLocation.HOST
    profiles = range(engine.num_optimization_profiles) if is_input and not on_host else ()
    return Port(
        name,
        engine.get_tensor_dtype(name).name,
        tuple(engine.get_tensor_shape(name)),
        on_host,
        tuple(_range(engine, name, index) for index in profiles),
    )


def _range(engine: trt.ICudaEngine, name: str, profile: int) -> Range:
    low, usual, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(name, profile))
    return low, usual, high
