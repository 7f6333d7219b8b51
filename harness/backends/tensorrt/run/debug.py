"""Intermediate tensors through TensorRT's debug listener.

From TensorRT 10.0 on; marked debug tensors keep their names and break fusions.  Unverified on TensorRT
hardware.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.backends.cuda.buffers import Buffers
from harness.backends.cuda.device import Device
from harness.backends.tensorrt.callbacks import Callback, keeping
from harness.backends.tensorrt.log import implement
from harness.backends.tensorrt.types import Array, from_bytes, nbytes_of
from harness.errors import BuildError, RunError

if TYPE_CHECKING:
    import tensorrt as trt


class Listener(Callback):
    """Copies each tensor that TensorRT shows; its method is what IDebugListener wants.

    The bindings drop what it answers: the run goes on, and the first error is raised after it.
    """

    def __init__(self, device: Device) -> None:
        self._device, self._buffers = device, Buffers(device)
        self.tensors: dict[str, Array] = {}

    @keeping(False)
    def process_debug_tensor(
        self,
        addr: int,
        location: trt.TensorLocation,
        type: trt.DataType,  # noqa: A002 - TensorRT's name for it
        shape: Iterable[int],
        name: str,
        stream: int,
    ) -> bool:
        """Keep a copy of one tensor."""
        self.tensors[name] = self._copy(addr, location.name, type.name, tuple(shape), stream)
        return True

    def _copy(self, addr: int, location: str, dtype: str, shape: tuple[int, ...], stream: int) -> Array:
        nbytes = nbytes_of(dtype, shape)
        if location == "HOST":
            return from_bytes(dtype, self._device.view(addr, nbytes), shape)
        data = self._buffers.staging("", nbytes)  # one for all: from_bytes copies
        self._device.download(data, addr, stream)
        self._device.synchronize(stream)
        return from_bytes(dtype, data, shape)

    def take(self) -> dict[str, Array]:
        """What was shown since the last time.  Raises HarnessError if a copy failed."""
        taken, self.tensors = self.tensors, {}
        self.raise_kept()
        return taken


def mark(network: trt.INetworkDefinition, tensors: Sequence[trt.ITensor]) -> None:
    """Mark `tensors` as debug tensors.  Raises BuildError for one that TensorRT does not take."""
    refused = [tensor.name for tensor in tensors if not network.mark_debug(tensor)]
    if refused:
        raise BuildError(f"cannot be debug tensors: {refused[:10]}")


def attach(api: trt.Module, context: trt.IExecutionContext, device: Device) -> Listener:
    """A listener of `context`, which hears nothing yet.  Raises RunError if TensorRT takes none."""
    listener = implement(api.IDebugListener, Listener)(device)
    if not context.set_debug_listener(listener):
        raise RunError("TensorRT takes no debug listener")
    attached: Listener = listener
    return attached


def switch_on(context: trt.IExecutionContext) -> None:
    """Let a context show marked debug tensors to its listener.  Raises RunError if TensorRT does not."""
    if not context.set_all_tensors_debug_state(True):
        raise RunError("TensorRT does not switch its debug tensors on")
