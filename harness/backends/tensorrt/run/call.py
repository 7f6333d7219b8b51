"""One call of an engine: what is bound to the tensors of a context, and what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.backends.tensorrt import types as trt_types
from harness.backends.tensorrt.log import implement
from harness.backends.tensorrt.run.buffers import Allocator, PortBuffers
from harness.backends.tensorrt.run.ports import Port
from harness.errors import RunError
from harness.spec.model_spec import Shape

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass
class Call:
    """A context, `held` until `release`, with memory of `buffers`; `why` gives TensorRT's words."""

    api: trt.Module
    held: trt.IExecutionContext | None
    buffers: PortBuffers
    stream: int
    why: Callable[[], str]
    places: dict[str, int] = field(default_factory=dict)
    allocators: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> trt.IExecutionContext:
        """The context.  Raises RunError after `release`."""
        if self.held is None:
            raise RunError("the engine is closed, or made other device runs since")
        return self.held

    def release(self) -> None:
        """Let the context go: it must not outlive its engine, whoever still holds this call."""
        self.held = None
        self.allocators.clear()

    def give(self, port: Port, values: trt_types.Array) -> None:
        """Set an input's shape and send its values.  Raises RunError."""
        if not self.context.set_input_shape(port.name, tuple(values.shape)):
            raise RunError(f"input {port.name!r}: shape {list(values.shape)} refused: {self.why()}")
        data = trt_types.to_bytes(port.dtype, values)
        send = self.buffers.host if port.on_host else self._upload
        self._place(port.name, send(port.name, data))

    def require_shapes(self) -> None:
        """Have the shapes of all outputs computed.  Raises RunError."""
        try:
            missing = self.context.infer_shapes()
        except RuntimeError as error:  # so the bindings tell of every error but a missing shape
            raise RunError(f"shapes cannot be inferred: {self.why()}") from error
        if missing:
            raise RunError(f"shapes of {list(missing)} cannot be inferred: {self.why()}")

    def take(self, port: Port) -> None:
        """Bind memory for an output; an allocator where its shape depends on data.  Raises RunError."""
        shape = tuple(self.context.get_tensor_shape(port.name))
        if port.on_host or all(size >= 0 for size in shape):
            nbytes = trt_types.nbytes_of(port.dtype, shape)
            space = self.buffers.host_space if port.on_host else self.buffers.space
            self._place(port.name, space(port.name, nbytes))
            return
        self.allocators[port.name] = implement(self.api.IOutputAllocator, Allocator)(self.buffers)
        self._allocate(port.name)

    def bind(self) -> None:
        """Bind everything again, after another call used the context.  Raises RunError."""
        for name, place in self.places.items():
            self._bind(name, place)
        for name in self.allocators:
            self._allocate(name)

    def execute(self) -> None:
        """Start the engine.  Raises RunError, also for what one of our allocators could not give."""
        started = self.context.execute_async_v3(self.stream)
        if kept := [error for item in self.allocators.values() if (error := item.forget())]:
            raise kept[0]
        if not started:
            raise RunError(self.why())

    def shape(self, name: str) -> Shape:
        """The shape of an output, after the engine ran.  Raises RunError."""
        if name not in self.allocators:
            return tuple(self.context.get_tensor_shape(name))
        told: Shape | None = self.allocators[name].shape
        if told is None:
            raise RunError(f"output {name!r}: TensorRT never told its shape")
        return told

    def _upload(self, name: str, data: Any) -> int:
        return self.buffers.send(name, data, self.stream)

    def _place(self, name: str, place: int) -> None:
        self.places[name] = place
        self._bind(name, place)

    def _bind(self, name: str, place: int) -> None:
        if not self.context.set_tensor_address(name, place):
            raise RunError(f"tensor {name!r}: address refused: {self.why()}")

    def _allocate(self, name: str) -> None:
        if not self.context.set_output_allocator(name, self.allocators[name]):
            raise RunError(f"output {name!r}: TensorRT takes no allocator: {self.why()}")
