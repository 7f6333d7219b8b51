"""The device interface over pycuda, which checks every status itself."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.cuda.device import DeviceInfo, host_view, no_memory
from harness.backends.cuda.faults import explained
from harness.errors import RunError

# pycuda's detach, and its destructor, push a primary context to release it and leave it current.  So it is
# retained once in a process, as CUDA's runtime does it too, and opening and closing only push and pop.
_retained: dict[int, Any] = {}


def open_device(index: int = 0) -> PycudaDevice:
    """The GPU number `index`.  Raises RunError without a driver or such a GPU."""
    try:
        driver = importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise RunError(f"pycuda does not load: {error}") from error
    return PycudaDevice(driver, index)


class PycudaDevice:
    """A GPU through its primary context; see `device.Device`."""

    def __init__(self, driver: Any, index: int) -> None:
        self._cuda = driver
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._pinned: list[Any] = []
        self._call(driver.init)
        self._device = self._call(driver.Device, index)
        if index not in _retained:
            _retained[index] = self._call(self._device.retain_primary_context)
        self._context: Any = _retained[index]
        self._call(self._context.push)

    def _call(self, function: Any, *args: Any) -> Any:
        try:
            return function(*args)
        except self._cuda.Error as error:
            raise explained(str(error)) from error

    def info(self) -> DeviceInfo:
        """What GPU this is."""
        major, minor = self._call(self._device.compute_capability)
        version = self._call(self._cuda.get_driver_version)
        cuda = f"{version // 1000}.{version % 1000 // 10}"
        return DeviceInfo(self._call(self._device.name), f"{major}.{minor}", cuda)

    def memory(self) -> tuple[int, int]:
        """Free and total device memory in bytes."""
        free, total = self._call(self._cuda.mem_get_info)
        return int(free), int(total)

    def allocate(self, nbytes: int) -> int:
        """Device memory; at least one byte, so that the pointer is never 0."""
        try:
            memory = self._cuda.mem_alloc(max(1, nbytes))
        except self._cuda.MemoryError as error:
            raise no_memory(nbytes, *self.memory()) from error
        except self._cuda.Error as error:
            raise explained(str(error)) from error
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, pointer: int) -> None:
        """Give device memory back."""
        self._call(self._memory.pop(pointer).free)

    def pinned(self, nbytes: int) -> NDArray[Any]:
        """A page-locked host buffer, as bytes."""
        buffer: NDArray[Any] = self._call(self._cuda.pagelocked_empty, max(1, nbytes), np.uint8)
        self._pinned.append(buffer.base)
        return buffer[:nbytes]

    def view(self, address: int, nbytes: int) -> NDArray[Any]:
        """Host memory as bytes."""
        return host_view(address, nbytes)

    def upload(self, pointer: int, buffer: NDArray[Any], stream: int) -> None:
        """Copy host memory to the device."""
        if buffer.nbytes:
            self._call(self._cuda.memcpy_htod_async, pointer, buffer, self._streams[stream])

    def download(self, buffer: NDArray[Any], pointer: int, stream: int) -> None:
        """Copy device memory to the host."""
        if not buffer.nbytes:
            return
        if stream in self._streams:
            self._call(self._cuda.memcpy_dtoh_async, buffer, pointer, self._streams[stream])
        else:  # pycuda makes no stream of another library's handle
            self.synchronize(stream)
            self._call(self._cuda.memcpy_dtoh, buffer, pointer)

    def create_stream(self) -> int:
        """A stream."""
        stream = self._call(self._cuda.Stream)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def synchronize(self, stream: int) -> None:
        """Wait for a stream; for everything, if it is another library's."""
        ours = self._streams.get(stream)
        self._call(ours.synchronize if ours is not None else self._cuda.Context.synchronize)

    def create_event(self) -> int:
        """An event that takes the time."""
        event = self._call(self._cuda.Event)
        self._events[id(event)] = event
        return id(event)

    def record(self, event: int, stream: int) -> None:
        """Note the time on the device."""
        self._call(self._events[event].record, self._streams[stream])

    def elapsed_s(self, start: int, end: int) -> float:
        """Seconds between two events."""
        self._call(self._events[end].synchronize)
        return float(self._call(self._events[start].time_till, self._events[end])) / 1e3

    def close(self) -> None:
        """Give everything back; the context is only popped: what was current before is so again."""
        if self._context is None:
            return
        for memory in self._memory.values():
            self._call(memory.free)
        for buffer in self._pinned:
            self._call(buffer.free)
        for kept in (self._memory, self._events, self._streams, self._pinned):
            kept.clear()
        self._call(self._context.pop)
        self._context = None
