"""Host and device memory of an engine's inputs and outputs, kept between runs and grown when needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.backends.cuda.device import Device

Bytes = NDArray[np.uint8]


class Buffers:
    """One device buffer and one pinned host buffer for each tensor name; both only ever grow."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._places: dict[str, tuple[int, int]] = {}
        self._pinned: dict[str, Bytes] = {}

    def space(self, name: str, nbytes: int) -> int:
        """Device memory of at least `nbytes` bytes for tensor `name`; never 0, also for an empty tensor."""
        pointer, size = self._places.get(name, (0, -1))
        if size >= nbytes:
            return pointer
        if name in self._places:
            self._device.free(self._places.pop(name)[0])
        pointer = self._device.allocate(nbytes)
        self._places[name] = (pointer, nbytes)
        return pointer

    def host_space(self, name: str, nbytes: int) -> int:
        """Pinned host memory of at least `nbytes` bytes; its address."""
        return int(self.staging(name, max(1, nbytes)).ctypes.data)

    def host(self, name: str, data: Bytes) -> int:
        """`data` in pinned host memory; its address."""
        address = self.host_space(name, data.nbytes)
        self.staging(name, data.nbytes)[:] = data
        return address

    def send(self, name: str, data: Bytes, stream: int) -> int:
        """`data` on its way to the device; its address there."""
        pointer = self.space(name, data.nbytes)
        staging = self.staging(name, data.nbytes)
        staging[:] = data
        self._device.upload(pointer, staging, stream)
        return pointer

    def staging(self, name: str, nbytes: int) -> Bytes:
        """Pinned host memory of `nbytes` bytes for tensor `name`; the same until more is asked for."""
        held = self._pinned.get(name)
        if held is None or held.nbytes < nbytes:
            held = self._pinned[name] = self._device.pinned(nbytes)
        return held[:nbytes]
