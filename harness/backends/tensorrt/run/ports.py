"""The inputs and outputs of an engine as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.base import TensorInfo
from harness.backends.tensorrt import types as trt_types
from harness.backends.tensorrt.errors import Range
from harness.backends.tensorrt.network import original_name
from harness.spec.model_spec import Shape

if TYPE_CHECKING:
    import tensorrt as trt

LINEAR = "LINEAR"
"""Row by row, without gaps: the only memory format in which the harness gives and reads tensors."""


@dataclass(frozen=True)
class Port:
    """One input or output of an engine: TensorRT dtype name, shape (-1 where dynamic), and where it lives.

    `ranges` holds an input's smallest, usual and largest shape in each profile; `format` its memory format.
    """

    name: str
    dtype: str
    shape: Shape
    on_host: bool
    ranges: tuple[Range, ...] = ()
    format: str = LINEAR

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
        _format(engine, name),
    )


def _format(engine: trt.ICudaEngine, name: str) -> str:
    """The memory format of a tensor: the first that is not LINEAR of those of all profiles."""
    profiles = range(max(engine.num_optimization_profiles, 1))
    found = (engine.get_tensor_format(name, index).name for index in profiles)
    return next((name for name in found if name != LINEAR), LINEAR)


def vectorised(found: Iterable[Port]) -> str | None:
    """Which tensors are in another memory format than LINEAR; None if none is."""
    odd = [f"{port.name!r} has memory format {port.format}" for port in found if port.format != LINEAR]
    return (
        f"{', '.join(odd)}: the harness gives and reads {LINEAR} tensors; build it with such" if odd else None
    )


def public_names(inputs: Iterable[Port], outputs: Iterable[Port]) -> dict[str, str]:
    """By the engine's name of an input, the model's: parsers put `__` before one that is an output too."""
    given, made = [port.name for port in inputs], {port.name for port in outputs}
    return {name: original_name(name, made) for name in given}


def _range(engine: trt.ICudaEngine, name: str, profile: int) -> Range:
    low, usual, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(name, profile))
    return low, usual, high
