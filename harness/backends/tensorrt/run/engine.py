"""Runs a TensorRT engine: named tensors, one context for each profile, every return value checked.

Unverified on TensorRT hardware: its calls are checked against the bindings by type and by a double.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.base import Tensors, named_shapes
from harness.backends.cuda.device import Device
from harness.backends.cuda.device_run import DeviceRun, EventTimer
from harness.backends.tensorrt import errors as trt_errors
from harness.backends.tensorrt import rtx as trt_rtx
from harness.backends.tensorrt import types as trt_types
from harness.backends.tensorrt.bindings import Bindings
from harness.backends.tensorrt.log import Log
from harness.backends.tensorrt.run import debug as trt_debug
from harness.backends.tensorrt.run import unfused as trt_unfused
from harness.backends.tensorrt.run.buffers import PortBuffers
from harness.backends.tensorrt.run.call import Call
from harness.backends.tensorrt.run.debug import Listener
from harness.backends.tensorrt.run.inspect import EngineFacts, inspect_engine
from harness.backends.tensorrt.run.opening import open_plan
from harness.backends.tensorrt.run.ports import ports, public_names, vectorised
from harness.backends.tensorrt.run.runtime import PLAIN
from harness.errors import HarnessError, RunError
from harness.spec.model_spec import BuildSpec

if TYPE_CHECKING:
    import tensorrt as trt

    from harness.backends.tensorrt.origin import Origin


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
    _calls: list[Call] = field(default_factory=list)
    _settings: Any = None

    def __post_init__(self) -> None:
        self.ports_in, self.ports_out = ports(self.bindings.api, self.engine)
        self.names = public_names(self.ports_in, self.ports_out)
        self.inputs = tuple(replace(p.info(), name=self.names[p.name]) for p in self.ports_in)
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
        opened = None
        try:
            opened = open_plan(bindings, plan, device, origin, options, folder)
            return TensorRTEngine(bindings, opened.engine, opened.runtime, opened.log, device)
        except RunError as error:
            opened = None
            traceback.clear_frames(error.__traceback__)
            device.close()  # After engine and runtime, which need it.
            raise

    def run(self, feeds: Tensors, profile: int = 0) -> dict[str, Any]:
        """Outputs by name for one set of feeds, at profile number `profile`.  Raises RunError."""
        with named_shapes(feeds):
            return self._outputs(feeds, profile)

    def _outputs(self, feeds: Tensors, profile: int) -> dict[str, Any]:
        self.log.take()
        arrays = self._checked(feeds, profile)
        call = self._call(self._context(profile), self._buffers)
        try:
            self._bind(call, arrays)
            call.execute()
            shapes = {port.name: call.shape(port.name) for port in self.ports_out}
        except HarnessError as error:
            raise self._listened(profile) or error from error
        finally:
            call.release()
        outputs = self._buffers.fetch(self.ports_out, shapes, self.stream)
        return outputs | self._debug_tensors(profile)

    def residents(self, feeds: Sequence[Tensors], profile: int = 0) -> list[DeviceRun]:
        """A run for each of `feeds`, all of the same shapes, inputs uploaded already.

        Runs of an earlier call must not be used again.  Raises RunError.
        """
        self.log.take()
        self._release()
        arrays = [self._checked(feed, profile) for feed in feeds]
        shapes = [{name: values.shape for name, values in given.items()} for given in arrays]
        if any(found != shapes[0] for found in shapes):
            raise RunError("device runs: the shapes of the feeds differ")
        if profile not in self._resident_contexts:
            self._resident_contexts[profile] = self._new_context(profile)
        self._sets += [PortBuffers(self.device) for _ in range(len(feeds) - len(self._sets))]
        context = self._resident_contexts[profile]
        self._calls = [self._call(context, buffers) for buffers in self._sets[: len(feeds)]]
        del context
        return [self._resident(call, given) for call, given in zip(self._calls, arrays, strict=True)]

    def timer(self) -> EventTimer:
        """A timer of what runs on this engine's stream."""
        return EventTimer(self.device, self.stream)

    def _resident(self, call: Call, arrays: Mapping[str, trt_types.Array]) -> DeviceRun:
        """Bind and run once, which tells the shapes of all outputs."""
        buffers = call.buffers
        self._bind(call, arrays)
        call.execute()
        self.device.synchronize(self.stream)
        inputs = {self.names[p.name]: buffers.slot(p, arrays[p.name].shape) for p in self.ports_in}
        outputs = {p.name: buffers.slot(p, call.shape(p.name)) for p in self.ports_out}
        for port in self.ports_in:
            call.places[port.name] = inputs[self.names[port.name]].address
        return DeviceRun(self.device, self.stream, call.execute, inputs, outputs, call.bind)

    def _call(self, context: trt.IExecutionContext, buffers: PortBuffers) -> Call:
        return Call(self.bindings.api, context, buffers, self.stream, self._failure)

    def _bind(self, call: Call, arrays: Mapping[str, trt_types.Array]) -> None:
        for port in self.ports_in:
            call.give(port, arrays[port.name])
        call.require_shapes()
        for port in self.ports_out:
            call.take(port)

    def _release(self) -> None:
        for call in self._calls:
            call.release()

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
                del context  # A traceback must not keep it.
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

    def _listened(self, profile: int) -> Exception | None:
        """What our listener could not tell through TensorRT."""
        listener = self._listeners.get(profile)
        return listener.forget() if listener is not None else None

    def _checked(self, feeds: Tensors, profile: int) -> dict[str, trt_types.Array]:
        """The feeds by the engine's names and in its types, after checks of profile, names and shapes."""
        if not 0 <= profile < self.engine.num_optimization_profiles:
            raise RunError(f"profile {profile}: the engine has {self.engine.num_optimization_profiles}")
        if why := vectorised((*self.ports_in, *self.ports_out)):
            raise RunError(why)
        if set(self.names.values()) != feeds.keys():
            raise RunError(f"inputs given {sorted(feeds)}, the engine takes {sorted(self.names.values())}")
        shapes = {name: values.shape for name, values in feeds.items()}
        ranges = {self.names[port.name]: port.ranges[profile] for port in self.ports_in if port.ranges}
        if why := trt_errors.outside(ranges, shapes, profile):
            raise RunError(why)
        given = {port.name: self.names[port.name] for port in self.ports_in}
        return {p.name: trt_types.fitted(feeds[given[p.name]], p.dtype, given[p.name]) for p in self.ports_in}

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
            del context  # A traceback must not keep it.
            raise RunError(f"profile {profile} cannot be selected: {self._failure()}") from error
        self.device.synchronize(self.stream)
        return context

    def _bare_context(self) -> trt.IExecutionContext | None:
        if not self.bindings.rtx:
            return self.engine.create_execution_context()
        self._settings = self._settings or trt_rtx.context_settings(self.bindings.api, self.engine)
        return trt_rtx.create_context(self.engine, self._settings)

    def _failure(self) -> str:
        return trt_errors.failed_run(self.log.messages, *self.device.memory())

    def close(self) -> None:
        """Free contexts, engine, runtime and device memory, in that order; again: nothing."""
        self._release()
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
