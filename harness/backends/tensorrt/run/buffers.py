"""Memory of an engine's inputs and outputs: typed as TensorRT types them, and grown as outputs ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.cuda.buffers import Buffers
from harness.backends.cuda.device_run import Slot
from harness.backends.tensorrt.callbacks import Callback, keeping
from harness.backends.tensorrt.run.ports import Port
from harness.backends.tensorrt.types import from_bytes, nbytes_of
from harness.spec.model_spec import Shape

Bytes = NDArray[np.uint8]


class PortBuffers(Buffers):
    """Buffers that know the ports of an engine."""

    def fetch(self, ports: Iterable[Port], shapes: Mapping[str, Shape], stream: int) -> dict[str, Any]:
        """The named outputs as arrays of their own, after everything on the stream is done."""
        data: dict[str, tuple[Port, Bytes]] = {}
        for port in ports:
            staging = self.staging(port.name, nbytes_of(port.dtype, shapes[port.name]))
            data[port.name] = (port, staging)
            if not port.on_host:
                self._device.download(staging, self._places[port.name][0], stream)
        self._device.synchronize(stream)
        return {name: from_bytes(port.dtype, held, shapes[name]) for name, (port, held) in data.items()}

    def slot(self, port: Port, shape: Shape) -> Slot:
        """Where a tensor of that shape is now, and what its pinned memory says."""
        nbytes = nbytes_of(port.dtype, shape)
        staging = self.staging(port.name, nbytes)
        pointer = None if port.on_host else self.space(port.name, nbytes)
        return Slot(pointer, staging, lambda: from_bytes(port.dtype, staging, shape))


class Allocator(Callback):
    """Gives memory to an output whose shape depends on data; its methods are what IOutputAllocator wants.

    An error is kept, and the null pointer makes the run fail.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.shape: Shape | None = None

    @keeping(0)
    def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
        """Memory for `size` bytes; CUDA aligns to 256 bytes, which is more than is ever asked."""
        del memory, alignment
        return self._buffers.space(tensor_name, size)

    def reallocate_output_async(
        self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
    ) -> int:
        """The same, from TensorRT 10.0 on."""
        del stream
        return self.reallocate_output(tensor_name, memory, size, alignment)

    @keeping(None)
    def notify_shape(self, tensor_name: str, shape: Iterable[int]) -> None:
        """TensorRT tells the shape."""
        del tensor_name
        self.shape = tuple(shape)
