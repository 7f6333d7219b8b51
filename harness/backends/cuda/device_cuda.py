"""The device interface over cuda-python: CUDA's driver API, every status checked."""

from __future__ import annotations

import importlib
from typing import Any

from numpy.typing import NDArray

from harness.backends.cuda.device import DeviceInfo, host_view, no_memory
from harness.backends.cuda.faults import NO_MEMORY, explained
from harness.errors import RunError


def open_device(index: int = 0) -> CudaPythonDevice:
    """The GPU number `index`.  Raises RunError without a driver or such a GPU."""
    return CudaPythonDevice(_driver(), index)


def _driver() -> Any:
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ModuleNotFoundError:
        return importlib.import_module("cuda.cuda")  # cuda-python up to 12.5


class CudaPythonDevice:
    """A GPU through its primary context; see `device.Device`."""

    def __init__(self, driver: Any, index: int) -> None:
        self._cuda = driver
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._pinned: list[int] = []
        self._allocated: set[int] = set()
        self._open = False
        self._call("cuInit", 0)
        self._device = self._call("cuDeviceGet", index)
        context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self._open = True
        self._call("cuCtxPushCurrent", context)
        # These two are called inside timed regions; a failure is asked again, by name.
        self._synchronize, self._record = driver.cuStreamSynchronize, driver.cuEventRecord

    def _call(self, name: str, *args: Any) -> Any:
        """What a driver function gives besides its status.  Raises RunError with CUDA's words."""
        try:
            status, *values = getattr(self._cuda, name)(*args)
        except RuntimeError as error:  # cuda-python itself, where it finds no libcuda
            raise RunError(f"{name}: {error}") from error
        if int(status) != 0:
            raise explained(f"{name}: {status.name}{self._said(status)}")
        return values[0] if len(values) == 1 else tuple(values)

    def _said(self, status: Any) -> str:
        failed, text = self._cuda.cuGetErrorString(status)
        return f": {text.decode()}" if int(failed) == 0 and text else ""

    def info(self) -> DeviceInfo:
        """What GPU this is."""
        major, minor = (self._attribute(f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        name = self._call("cuDeviceGetName", 256, self._device).split(b"\0")[0].decode()
        version = self._call("cuDriverGetVersion")
        return DeviceInfo(name, f"{major}.{minor}", f"{version // 1000}.{version % 1000 // 10}")

    def _attribute(self, name: str) -> int:
        key = getattr(self._cuda.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._call("cuDeviceGetAttribute", key, self._device))

    def memory(self) -> tuple[int, int]:
        """Free and total device memory in bytes."""
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def allocate(self, nbytes: int) -> int:
        """Device memory; at least one byte, so that the pointer is never 0."""
        try:
            pointer = int(self._call("cuMemAlloc", max(1, nbytes)))
        except RunError as error:
            if NO_MEMORY.search(str(error)):
                raise no_memory(nbytes, *self.memory()) from error
            raise
        self._allocated.add(pointer)
        return pointer

    def free(self, pointer: int) -> None:
        """Give device memory back."""
        self._allocated.remove(pointer)
        self._call("cuMemFree", pointer)

    def pinned(self, nbytes: int) -> NDArray[Any]:
        """A page-locked host buffer, as bytes."""
        address = int(self._call("cuMemHostAlloc", max(1, nbytes), 0))
        self._pinned.append(address)
        return host_view(address, nbytes)

    def view(self, address: int, nbytes: int) -> NDArray[Any]:
        """Host memory as bytes."""
        return host_view(address, nbytes)

    def upload(self, pointer: int, buffer: NDArray[Any], stream: int) -> None:
        """Copy host memory to the device."""
        if buffer.nbytes:
            self._call("cuMemcpyHtoDAsync", pointer, buffer.ctypes.data, buffer.nbytes, self._stream(stream))

    def download(self, buffer: NDArray[Any], pointer: int, stream: int) -> None:
        """Copy device memory to the host."""
        if buffer.nbytes:
            self._call("cuMemcpyDtoHAsync", buffer.ctypes.data, pointer, buffer.nbytes, self._stream(stream))

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        stream = self._call("cuStreamCreate", int(self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self._streams[int(stream)] = stream
        return int(stream)

    def _stream(self, stream: int) -> Any:
        """A stream of ours, or another library's by its handle."""
        return self._streams.get(stream, stream)

    def synchronize(self, stream: int) -> None:
        """Wait for a stream."""
        if self._synchronize(self._stream(stream))[0]:
            self._call("cuStreamSynchronize", self._stream(stream))

    def create_event(self) -> int:
        """An event that takes the time."""
        event = self._call("cuEventCreate", int(self._cuda.CUevent_flags.CU_EVENT_DEFAULT))
        self._events[int(event)] = event
        return int(event)

    def record(self, event: int, stream: int) -> None:
        """Note the time on the device."""
        if self._record(self._events[event], self._streams[stream])[0]:
            self._call("cuEventRecord", self._events[event], self._streams[stream])

    def elapsed_s(self, start: int, end: int) -> float:
        """Seconds between two events."""
        self._call("cuEventSynchronize", self._events[end])
        return float(self._call("cuEventElapsedTime", self._events[start], self._events[end])) / 1e3

    def close(self) -> None:
        """Give everything back, the context last."""
        if not self._open:
            return
        self._open = False
        for pointer in self._allocated:
            self._call("cuMemFree", pointer)
        for address in self._pinned:
            self._call("cuMemFreeHost", address)
        for event in self._events.values():
            self._call("cuEventDestroy", event)
        for stream in self._streams.values():
            self._call("cuStreamDestroy", stream)
        self._call("cuCtxPopCurrent")  # What was current before, another library's maybe, is so again.
        self._call("cuDevicePrimaryCtxRelease", self._device)
