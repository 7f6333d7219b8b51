"""Device memory, streams, events and pinned buffers, over cuda-python or over pycuda, whichever is installed.

One primary context per process is retained and released last.  Pointers and handles are plain integers, as
TensorRT takes them.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import BackendUnavailableError, RunError

Binding = Literal["cuda-python", "pycuda"]
MODULES: dict[Binding, str] = {
    "cuda-python": "harness.backends.cuda.device_cuda",
    "pycuda": "harness.backends.cuda.device_pycuda",
}
PACKAGES: dict[Binding, tuple[str, ...]] = {
    "cuda-python": ("cuda.bindings", "cuda.cuda"),
    "pycuda": ("pycuda",),
}
INSTALL = "pip install 'trt-harness[gpu]' (cuda-python) or 'trt-harness[pycuda]'"


@dataclass(frozen=True)
class DeviceInfo:
    """A GPU: name, compute capability (`8.9`), driver's CUDA version (`13.0`)."""

    name: str
    compute_capability: str
    cuda: str


class Device(Protocol):
    """What the runner needs of CUDA.  Every call raises RunError with CUDA's words if it fails."""

    def info(self) -> DeviceInfo:
        """What GPU this is."""

    def memory(self) -> tuple[int, int]:
        """Free and total device memory in bytes."""

    def allocate(self, nbytes: int) -> int:
        """Device memory of `nbytes` bytes or more; the pointer is never 0, not even for 0 bytes."""

    def free(self, pointer: int) -> None:
        """Give device memory back."""

    def pinned(self, nbytes: int) -> NDArray[Any]:
        """A page-locked host buffer, as bytes; it lives until `close`."""

    def view(self, address: int, nbytes: int) -> NDArray[Any]:
        """Host memory at `address`, as bytes."""

    def upload(self, pointer: int, buffer: NDArray[Any], stream: int) -> None:
        """Copy contiguous host memory to the device; done once the stream is synchronised."""

    def download(self, buffer: NDArray[Any], pointer: int, stream: int) -> None:
        """Copy device memory to contiguous host memory; done once the stream is synchronised."""

    def create_stream(self) -> int:
        """A stream; it lives until `close`."""

    def synchronize(self, stream: int) -> None:
        """Wait for everything on `stream`, which may be another library's, as in `download`."""

    def create_event(self) -> int:
        """An event that takes the time; it lives until `close`."""

    def record(self, event: int, stream: int) -> None:
        """Note the time on the device when the stream gets there."""

    def elapsed_s(self, start: int, end: int) -> float:
        """Seconds between two recorded events, after waiting for the second."""

    def close(self) -> None:
        """Give everything back, the context last; calling it again does nothing."""


def installed() -> tuple[Binding, ...]:
    """The bindings that are installed, the preferred one first."""
    return tuple(binding for binding, names in PACKAGES.items() if any(map(_found, names)))


def absence(binding: Binding | None = None) -> str | None:
    """Why no GPU can be used through `binding` (None: any); None if one can."""
    try:
        open_device(binding).close()
    except (BackendUnavailableError, RunError) as error:
        return str(error)
    return None


def open_device(binding: Binding | None = None, index: int = 0) -> Device:
    """The GPU number `index` through `binding`, or through the one that is installed.

    Raises BackendUnavailableError if none is installed, RunError if there is no driver or GPU.
    """
    found = installed()
    chosen = binding or next(iter(found), None)
    if chosen is None:
        raise BackendUnavailableError(f"neither cuda-python nor pycuda is installed: {INSTALL}")
    if chosen not in found:
        raise BackendUnavailableError(f"{chosen} is not installed: {INSTALL}")
    device: Device = importlib.import_module(MODULES[chosen]).open_device(index)
    return device


def host_view(address: int, nbytes: int) -> NDArray[Any]:
    """Host memory at `address` as bytes, without a copy; whoever owns it must outlive the view."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))


def no_memory(nbytes: int, free: int, total: int) -> RunError:
    """The error for an allocation that did not fit."""
    return RunError(f"out of device memory: asked for {nbytes} bytes, {free} of {total} bytes are free")


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
