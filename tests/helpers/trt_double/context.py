"""`trt.IExecutionContext` that computes on host memory."""

# ruff: noqa: ARG002 - a double has the parameters of what it stands for
from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.cuda.device import host_view
from harness.backends.tensorrt.errors import fits
from harness.backends.tensorrt.types import from_bytes, nbytes_of, numpy_type, to_bytes
from tests.helpers.trt_double.device import ALIGNMENT

if TYPE_CHECKING:
    from tests.helpers.trt_double.engine import Engine

Shape = tuple[int, ...]
WIDTHS = {"CHW2": 2, "CHW4": 4, "CHW16": 16, "CHW32": 32, "HWC8": 8}
"""How many channels a vector of a memory format has."""


class Context:
    """Work is queued on the stream; where an output's shape depends on data, it is waited for at once."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.device = engine, engine.device
        self.profile = -1
        self.shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.listener: Any = None
        self.debugging = self.showing = False
        self.device.dependents.add(self)

    def _fails(self, call: str) -> bool:
        if call in self.engine.faults.calls:
            self.engine.say()
        return call in self.engine.faults.calls

    def _refuses(self, why: str) -> bool:
        self.engine.say(why)
        return False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self._fails("set_optimization_profile_async"):
            del self
            raise RuntimeError("Error in set optimization profile async.")
        self.profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        if self.profile < 0 and self.device.strict("profile"):
            return self._refuses("no optimization profile is set")
        part = self.engine.profiles[max(self.profile, 0)].shapes.get(name)
        fixed = tuple(self.engine.get_tensor_shape(name))
        low, high = (part.min, part.max) if part else (fixed, fixed)
        if not fits(shape, low, high) or self._fails("set_input_shape"):
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        device = not self._on_host(name)
        if device and memory % ALIGNMENT and self.device.strict("alignment"):
            return self._refuses(f"{name}: the address is not aligned to {ALIGNMENT} bytes")
        self.addresses[name] = memory
        return memory != 0 and not self._fails("set_tensor_address")

    def infer_shapes(self) -> list[str]:
        if self.engine.faults.inconsistent:
            self.engine.say()
            del self  # as in C++: an error's traceback does not hold it
            raise RuntimeError("infer_shapes error code: -1")
        missing = self._unset()
        if self.device.strict("host shapes"):
            missing += [n for n in self._inputs() if self._on_host(n) and n not in self.addresses]
        return ["x"] if self._fails("infer_shapes") else missing

    def get_tensor_shape(self, name: str) -> Any:
        if name in self.engine.faults.data_dependent:
            return self.engine.api.Dims([-1] * len(self.engine.nodes[name].shape))
        unknown = bool(self._unset())
        if name in self._inputs() or (unknown and self.device.strict("unknown shapes")):
            return self.engine.api.Dims(
                list(self.shapes.get(name, tuple(self.engine.get_tensor_shape(name))))
            )
        feeds = {name: self._stand_in(name) for name in self._inputs()}
        return self.engine.api.Dims(list(np.shape(self._compute(feeds)[name])))

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self.allocators[name] = output_allocator
        return not self._fails("set_output_allocator")

    def set_debug_listener(self, listener: Any) -> bool:
        self.listener = listener
        return not self._fails("set_debug_listener")

    @property
    def unfused_tensors_debug_state(self) -> bool:
        return self.showing

    @unfused_tensors_debug_state.setter
    def unfused_tensors_debug_state(self, flag: bool) -> None:
        self.showing = flag and not self._fails("unfused_tensors_debug_state")

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        self.debugging = flag
        return not self._fails("set_all_tensors_debug_state")

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._fails("execute_async_v3"):
            return False
        if self._unset():
            return self._refuses(f"shapes of {self._unset()} are not set")
        if not self.allocators and self.listener is None:
            self.device.later(stream_handle, self._run)
            return True
        self.device.synchronize(stream_handle)
        return self._run()

    def _run(self) -> bool:
        feeds = {name: self._read(name) for name in self.shapes}
        values = self._compute(feeds)
        debug = {name: values.pop(name) for name in self.engine.faults.debug}
        self._show(debug)
        self._show({f"shown_{name}": value for name, value in feeds.items()})
        return all(self._write(name, value) for name, value in values.items())

    def _inputs(self) -> list[str]:
        return [node.name for node in self.engine.session.get_inputs()]

    def _unset(self) -> list[str]:
        open_ones = (n for n in self._inputs() if -1 in tuple(self.engine.get_tensor_shape(n)))
        return [name for name in open_ones if name not in self.shapes]

    def _on_host(self, name: str) -> bool:
        return name in self.engine.faults.on_host

    def _compute(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = [output.name for output in self.engine.session.get_outputs()]
        return dict(zip(names, self.engine.session.run(names, feeds), strict=True))

    def _stand_in(self, name: str) -> NDArray[Any]:
        """Values that give outputs their shapes: those of a host input, else zeros of the largest shape."""
        if self._on_host(name) and name in self.addresses:
            return self._read(name)
        part = self.engine.profiles[max(self.profile, 0)].shapes.get(name)
        largest = part.max if part else tuple(self.engine.get_tensor_shape(name))
        return np.zeros(self.shapes.get(name, largest), self.engine.computes(name))

    def _kind(self, name: str) -> str:
        return str(self.engine.get_tensor_dtype(name).name)

    def _nbytes(self, name: str, shape: Shape) -> int:
        """Bytes of a tensor in its memory format: channels fill whole vectors."""
        width = WIDTHS.get(self.engine.faults.formats.get(name, "LINEAR"), 1)
        if width > 1 and self.device.strict("formats"):
            shape = (shape[0], -(-shape[1] // width) * width, *shape[2:])
        return nbytes_of(self._kind(name), shape)

    def _read(self, name: str) -> NDArray[Any]:
        shape, kind = self.shapes[name], self._kind(name)
        self.device.require(self.addresses[name], self._nbytes(name, shape), host=self._on_host(name))
        data = host_view(self.addresses[name], nbytes_of(kind, shape))
        return from_bytes(kind, data, shape).astype(self.engine.computes(name))

    def _write(self, name: str, value: NDArray[Any]) -> bool:
        allocator, kind = self.allocators.get(name), self._kind(name)
        if name in self.engine.faults.silent:
            return True
        nbytes, address = self._nbytes(name, value.shape), self.addresses.get(name, 0)
        if allocator is not None:
            address = self._called(allocator.reallocate_output_async, name, 0, max(1, nbytes), 256, 7) or 0
            if address == 0:
                self.engine.say()
                return False
            self._called(allocator.notify_shape, name, self.engine.api.Dims(list(value.shape)))
        self.device.require(address, nbytes, host=self._on_host(name))
        data = to_bytes(kind, value.astype(numpy_type(kind)))
        host_view(address, data.nbytes)[:] = data
        return True

    def _called(self, callback: Callable[..., Any], *args: object) -> Any:
        """What a callback answers; what it raises does not come through the bindings."""
        if not self.device.strict("callbacks"):
            return callback(*args)
        try:
            return callback(*args)
        except Exception:  # noqa: BLE001 - the bindings do so
            return None

    def _show(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Shows tensors on the device, under the names of fused graphs where these are asked for."""
        if self.listener is None or not (self.debugging or self.unfused_tensors_debug_state):
            return
        api, stream = self.engine.api, self.engine.faults.stream
        for name, value in tensors.items():
            shown = f"{name}.1_15_myl0" if self.unfused_tensors_debug_state else name
            kind = self._kind(name.removeprefix("shown_")) if name.startswith("shown_") else "FLOAT"
            data = to_bytes(kind, value.astype(numpy_type(kind)))
            address = self.device.allocate(data.nbytes)
            self.device.later(stream, functools.partial(_put, address, data))
            place, dtype = api.TensorLocation.DEVICE, getattr(api.DataType, kind)
            heard = (address, place, dtype, api.Dims(list(value.shape)), shown, stream)
            self._called(self.listener.process_debug_tensor, *heard)


def _put(address: int, data: NDArray[Any]) -> None:
    host_view(address, data.nbytes)[:] = data
