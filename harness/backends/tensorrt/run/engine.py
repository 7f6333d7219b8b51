"""Runs a TensorRT engine: named tensors, one context for each profile, every return value checked.

Unverified on TensorRT hardware: its calls are checked against the bindings by type and by a double.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.base import Tensors, named_shapes
from harness.backends.cuda.device import Device
from harness.backends.cuda.device_run import DeviceRun, EventTimer
from harness.backends.tensorrt import errors as trt_errors
from harness.backends.tensorrt import rtx as trt_rtx
from harness.backends.tensorrt import types as trt_types
from harness.backends.tensorrt.bindings import Bindings, deprecated
from harness.backends.tensorrt.log import Log, create_log, implement
from harness.backends.tensorrt.run import debug as trt_debug
from harness.backends.tensorrt.run import unfused as trt_unfused
from harness.backends.tensorrt.run.buffers import Allocator, PortBuffers
from harness.backends.tensorrt.run.debug import Listener
from harness.backends.tensorrt.run.inspect import EngineFacts, inspect_engine
from harness.backends.tensorrt.run.ports import Port, ports
from harness.backends.tensorrt.run.runtime import PLAIN, create_runtime
from harness.errors import BackendError, RunError
from harness.spec.model_spec import BuildSpec, Shape

if TYPE_CHECKING:
    import tensorrt as trt

    from harness.backends.tensorrt.origin import Origin


IMPLICIT_BATCH = (
    "built with an implicit batch dimension, which TensorRT 10 removed: build it again from ONNX, "
    "whose batch is an axis like any other"
)


@dataclass
class TensorRTEngine:
    """A deserialised engine with its contexts and buffers; it owns the device that it was given."""

    bindings: Bindings
    engine: trt.ICudaEngine
    runtime: trt.Runtime
    log: Log
    device: Device
    shown: tuple[str, ...] = ()
    unfused: bool = False
    _contexts: dict[int, trt.IExecutionContext] = field(default_factory=dict)
    _resident_contexts: dict[int, trt.IExecutionContext] = field(default_factory=dict)
    _sets: list[PortBuffers] = field(default_factory=list)
    _listeners: dict[int, Listener] = field(default_factory=dict)
    _settings: Any = None

    def __post_init__(self) -> None:
        self.ports_in, self.ports_out = ports(self.bindings.api, self.engine)
        self.inputs = tuple(port.info() for port in self.ports_in)
        self.outputs = tuple(port.info() for port in self.ports_out)
        self.stream = self.device.create_stream()
        self._buffers = PortBuffers(self.device)

    @staticmethod
    def open(
        bindings: Bindings,
        plan: Path,
        device: Device,
        origin: Origin | None = None,
        options: BuildSpec = PLAIN,
        folder: Path = Path(),
    ) -> TensorRTEngine:
        """Load the plan file, built with `options`, whose relative paths start at `folder`.

        Raises RunError: unreadable, another version or GPU, a plugin that does not load, out of memory.
        """
        log = create_log(bindings.api)
        try:
            runtime = create_runtime(bindings, log, options, folder)
            engine = runtime.deserialize_cuda_engine(plan.read_bytes())
            if engine is None:
                why = trt_errors.not_loaded(
                    origin, str(bindings.api.__version__), device.info().name, log.messages, *device.memory()
                )
                raise RunError(f"{plan}: {why}")
            with deprecated():  # TensorRT 8.6 to 10.x tell
                implicit_batch = getattr(engine, "has_implicit_batch_dimension", False)
            if implicit_batch:
                raise RunError(f"{plan}: {IMPLICIT_BATCH}")
            return TensorRTEngine(bindings, engine, runtime, log, device)
        except (OSError, BackendError) as error:
            device.close()
            raise error if isinstance(error, RunError) else RunError(f"{plan}: {error}") from error

    def run(self, feeds: Tensors, profile: int = 0) -> dict[str, Any]:
        """Outputs by name for one set of feeds, at profile number `profile`.  Raises RunError."""
        with named_shapes(feeds):
            return self._outputs(feeds, profile)

    def _outputs(self, feeds: Tensors, profile: int) -> dict[str, Any]:
        arrays = self._checked(feeds, profile)
        context = self._context(profile)
        for port in self.ports_in:
            self._bind_input(context, port, arrays[port.name], self._buffers)
        self._require_shapes(context)
        allocators = {port.name: self._bind_output(context, port, self._buffers) for port in self.ports_out}
        if not context.execute_async_v3(self.stream):
            raise self._own_error(profile, allocators) or RunError(self._failure())
        shapes = {name: self._final_shape(context, name, given) for name, given in allocators.items()}
        outputs = self._buffers.fetch(self.ports_out, shapes, self.stream)
        return outputs | self._debug_tensors(profile)

    def residents(self, feeds: Sequence[Tensors], profile: int = 0) -> list[DeviceRun]:
        """A run for each of `feeds`, all of the same shapes, inputs uploaded already.

        Runs of an earlier call must not be used again.  Raises RunError.
        """
        arrays = [self._checked(feed, profile) for feed in feeds]
        if any(
            {n: a.shape for n, a in x.items()} != {n: a.shape for n, a in arrays[0].items()} for x in arrays
        ):
            raise RunError("device runs: the shapes of the feeds differ")
        if profile not in self._resident_contexts:
            self._resident_contexts[profile] = self._new_context(profile)
        self._sets += [PortBuffers(self.device) for _ in range(len(feeds) - len(self._sets))]
        return [
            self._resident(self._resident_contexts[profile], given, buffers)
            for given, buffers in zip(arrays, self._sets, strict=False)
        ]

    def timer(self) -> EventTimer:
        """A timer of what runs on this engine's stream."""
        return EventTimer(self.device, self.stream)

    def _resident(
        self, context: trt.IExecutionContext, arrays: Mapping[str, trt_types.Array], buffers: PortBuffers
    ) -> DeviceRun:
        """Bind and run once, which tells the shapes of all outputs."""
        for port in self.ports_in:
            self._bind_input(context, port, arrays[port.name], buffers)
        self._require_shapes(context)
        allocators: dict[str, Any] = {
            port.name: self._bind_output(context, port, buffers) for port in self.ports_out
        }
        self._execute(context, allocators)
        self.device.synchronize(self.stream)
        shapes = {name: self._final_shape(context, name, given) for name, given in allocators.items()}
        inputs = {p.name: buffers.slot(p, arrays[p.name].shape) for p in self.ports_in}
        outputs = {p.name: buffers.slot(p, shapes[p.name]) for p in self.ports_out}
        places = {
            name: slot.address for name, slot in {**inputs, **outputs}.items() if not allocators.get(name)
        }

        def enqueue() -> None:
            for name, place in places.items():
                self._bind(context, name, place)
            for name, allocator in allocators.items():
                if allocator is not None:
                    context.set_output_allocator(name, allocator)
            self._execute(context, allocators)

        return DeviceRun(self.device, self.stream, enqueue, inputs, outputs)

    def _execute(self, context: trt.IExecutionContext, allocators: Mapping[str, Allocator | None]) -> None:
        if not context.execute_async_v3(self.stream):
            failed = (
                item.error for item in allocators.values() if item is not None and item.error is not None
            )
            raise next(failed, None) or RunError(self._failure())

    def listening(self, tensors: Sequence[str], instrumentation: str) -> TensorRTEngine:
        """The same engine with the debug tensors named `tensors` among its outputs.

        Of `unfused tensors` those that fusion left; of `debug tensors` all.
        """
        self.shown, self.unfused = tuple(tensors), instrumentation == "unfused tensors"
        return self

    def facts(self, barred: Sequence[str] = ()) -> EngineFacts:
        """What the engine says of itself; see `inspect_engine`.  Raises BuildError, RunError."""
        context = self._usual() if any(port.ranges for port in self.ports_in) else None
        return inspect_engine(self.bindings.api, self.engine, context, barred)

    def _usual(self) -> trt.IExecutionContext:
        """A context at the usual shapes of the first profile: without shapes, types are not told."""
        context = self._new_context(0)
        for port in self.ports_in:
            usual = port.ranges[0][1] if port.ranges else port.shape
            if not context.set_input_shape(port.name, usual):
                raise RunError(f"input {port.name!r}: shape {list(usual)} refused: {self._failure()}")
        return context

    def _debug_tensors(self, profile: int) -> dict[str, Any]:
        if not self.shown:
            return {}
        taken = self._listeners[profile].take()
        named = (
            {trt_unfused.onnx_name(name): value for name, value in taken.items()} if self.unfused else taken
        )
        missing = [] if self.unfused else [name for name in self.shown if name not in named]
        if missing:
            raise RunError(f"TensorRT did not show {missing[:10]}")
        return {name: named[name] for name in self.shown if name in named}

    def _checked(self, feeds: Tensors, profile: int) -> dict[str, trt_types.Array]:
        """The feeds in the engine's types, after checks of profile, names and shapes."""
        if not 0 <= profile < self.engine.num_optimization_profiles:
            raise RunError(f"profile {profile}: the engine has {self.engine.num_optimization_profiles}")
        names = {port.name for port in self.ports_in}
        if names != feeds.keys():
            raise RunError(f"inputs given {sorted(feeds)}, the engine takes {sorted(names)}")
        shapes = {name: values.shape for name, values in feeds.items()}
        ranges = {port.name: port.ranges[profile] for port in self.ports_in if port.ranges}
        if why := trt_errors.outside(ranges, shapes, profile):
            raise RunError(why)
        return {p.name: trt_types.fitted(feeds[p.name], p.dtype, p.name) for p in self.ports_in}

    def _context(self, profile: int) -> trt.IExecutionContext:
        """The context of a profile, made when it is first needed."""
        if profile in self._contexts:
            return self._contexts[profile]
        context = self._new_context(profile)
        if self.shown:
            self._listeners[profile] = trt_debug.attach(self.bindings.api, context, self.device)
            (trt_unfused if self.unfused else trt_debug).switch_on(context)
        self._contexts[profile] = context
        return context

    def _new_context(self, profile: int) -> trt.IExecutionContext:
        context = self._bare_context()
        if context is None:
            raise RunError(f"no execution context: {self._failure()}")
        try:
            context.set_optimization_profile_async(profile, self.stream)
        except RuntimeError as error:  # the bindings return nothing but True
            raise RunError(f"profile {profile} cannot be selected: {self._failure()}") from error
        self.device.synchronize(self.stream)
        return context

    def _bare_context(self) -> trt.IExecutionContext | None:
        if not self.bindings.rtx:
            return self.engine.create_execution_context()
        self._settings = self._settings or trt_rtx.context_settings(self.bindings.api, self.engine)
        return trt_rtx.create_context(self.engine, self._settings)

    def _bind_input(
        self, context: trt.IExecutionContext, port: Port, values: trt_types.Array, buffers: PortBuffers
    ) -> None:
        if not context.set_input_shape(port.name, tuple(values.shape)):
            raise RunError(f"input {port.name!r}: shape {list(values.shape)} refused: {self._failure()}")
        data = trt_types.to_bytes(port.dtype, values)
        place = buffers.host(port.name, data) if port.on_host else buffers.send(port.name, data, self.stream)
        self._bind(context, port.name, place)

    def _require_shapes(self, context: trt.IExecutionContext) -> None:
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:  # so the bindings tell of every error but a missing shape
            raise RunError(f"shapes cannot be inferred: {self._failure()}") from error
        if missing:
            raise RunError(f"shapes of {list(missing)} cannot be inferred: {self._failure()}")

    def _bind_output(
        self, context: trt.IExecutionContext, port: Port, buffers: PortBuffers
    ) -> Allocator | None:
        """Bind memory for an output; an allocator where its shape depends on data."""
        shape = tuple(context.get_tensor_shape(port.name))
        if port.on_host or all(size >= 0 for size in shape):
            nbytes = trt_types.nbytes_of(port.dtype, shape)
            space = buffers.host_space if port.on_host else buffers.space
            self._bind(context, port.name, space(port.name, nbytes))
            return None
        allocator = implement(self.bindings.api.IOutputAllocator, Allocator)(buffers)
        if not context.set_output_allocator(port.name, allocator):
            raise RunError(f"output {port.name!r}: TensorRT takes no allocator: {self._failure()}")
        given: Allocator = allocator
        return given

    def _final_shape(self, context: trt.IExecutionContext, name: str, allocator: Allocator | None) -> Shape:
        if allocator is None:
            return tuple(context.get_tensor_shape(name))
        if allocator.shape is None:
            raise RunError(f"output {name!r}: TensorRT never told its shape")
        return allocator.shape

    def _own_error(self, profile: int, allocators: Mapping[str, Allocator | None]) -> RunError | None:
        """What a callback of ours could not tell through TensorRT."""
        called = [*allocators.values(), self._listeners.get(profile)]
        return next((item.error for item in called if item is not None and item.error is not None), None)

    def _bind(self, context: trt.IExecutionContext, name: str, pointer: int) -> None:
        if not context.set_tensor_address(name, pointer):
            raise RunError(f"tensor {name!r}: address refused: {self._failure()}")

    def _failure(self) -> str:
        return trt_errors.failed_run(self.log.messages, *self.device.memory())

    def close(self) -> None:
        """Free contexts, engine, runtime and device memory, in that order; again: nothing."""
        self._contexts.clear()
        self._resident_contexts.clear()
        self._listeners.clear()
        self._settings = None
        if self.__dict__.pop("engine", None) is None:
            return
        self.__dict__.pop("runtime")
        self.device.close()

    def __enter__(self) -> TensorRTEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
