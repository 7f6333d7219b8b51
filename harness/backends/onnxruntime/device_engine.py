"""Sessions of ONNX Runtime on a GPU between device buffers: I/O binding, pinned staging, CUDA graphs.

The session computes on a stream of ours, so that copies, events and kernels keep their order.  Memory,
stream and events come from `device`, over cuda-python or pycuda.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harness.backends.base import TensorInfo, Tensors
from harness.backends.cuda.buffers import Buffers
from harness.backends.cuda.device import Device
from harness.backends.cuda.device_run import Bytes, DeviceRun, EventTimer, Slot
from harness.backends.cuda.faults import explained
from harness.backends.onnxruntime.provider import require_provider
from harness.backends.onnxruntime.session import ORT_ERRORS, OrtEngine, SessionSettings, one_line, session_of
from harness.backends.onnxruntime.values import NUMPY_NAMES, ONNX_BFLOAT16
from harness.errors import NotHonouredError, RunError

NO_GRAPH = -1
"""The graph id with which ONNX Runtime neither captures nor replays."""


class OrtDeviceEngine(OrtEngine):
    """A session that reads and writes device memory; it owns the device that it was given.

    `kind` is ONNX Runtime's word for the memory of `device`; `graphs`: device runs are captured as CUDA
    graphs, `run` never is.
    """

    def __init__(
        self, session: Any, device: Device, stream: int, *, graphs: bool = False, kind: str = "cuda"
    ) -> None:
        super().__init__(session)
        self._device, self._stream, self._graphs, self._kind = device, stream, graphs, kind
        self._buffers = Buffers(device)
        self._sets: list[Buffers] = []
        self._starts: list[_Start] = []
        self._ids = itertools.count(1)

    @classmethod
    def on(cls, device: Device, path: Path, settings: SessionSettings) -> OrtEngine:
        """The engine of a model file; one without device buffers if it takes or gives strings or sequences.

        Raises NotHonouredError, RunError; the device is closed then.
        """
        require_provider(settings.provider)
        try:
            stream = device.create_stream()
            options = {**settings.provider_options, "user_compute_stream": str(stream)}
            session = session_of(path, replace(settings, provider_options=options))
            _require_stream(session, settings.provider, stream)
        except (NotHonouredError, RunError):
            device.close()
            raise
        if not all(_on_device(arg.type) for arg in (*session.get_inputs(), *session.get_outputs())):
            device.close()
            return OrtEngine.open(path, settings)
        return cls(session, device, stream, graphs=options.get("enable_cuda_graph") == "1")

    def _outputs(self, feeds: Tensors) -> dict[str, Any]:
        """Outputs by name for one set of feeds, through pinned memory."""
        binding = self._bound(feeds, self._buffers)
        self._outputs_anywhere(binding)
        self._start(binding, NO_GRAPH)
        self._device.synchronize(self._stream)
        slots = {
            name: self._slot(f"output {name}", self._buffers, value.data_ptr(), *_kind_of(value))
            for name, value in zip(self._names, binding.get_outputs(), strict=True)
        }
        for slot in slots.values():
            self._device.download(slot.staging, slot.pointer or 0, self._stream)
        self._device.synchronize(self._stream)
        return {name: slot.values() for name, slot in slots.items()}

    def residents(self, feeds: Sequence[Tensors], profile: int = 0) -> list[DeviceRun]:  # noqa: ARG002
        """A run for each of `feeds`, inputs uploaded already; runs of an earlier call must not be used again.

        Raises RunError.
        """
        self._forget()
        self._sets += [Buffers(self._device) for _ in range(len(feeds) - len(self._sets))]
        return [self._resident(feed, buffers) for feed, buffers in zip(feeds, self._sets, strict=False)]

    def timer(self) -> EventTimer:
        """A timer of what runs on this engine's stream."""
        return EventTimer(self._device, self._stream)

    def _resident(self, feeds: Tensors, buffers: Buffers) -> DeviceRun:
        """A first run tells the shapes of the outputs, which are then bound to memory of ours."""
        binding = self._bound(feeds, buffers)
        self._outputs_anywhere(binding)
        self._start(binding, NO_GRAPH)
        self._device.synchronize(self._stream)
        kinds = [_kind_of(value) for value in binding.get_outputs()]
        binding.clear_binding_outputs()
        outputs = {}
        for name, (dtype, shape) in zip(self._names, kinds, strict=True):
            key = f"output {name}"
            pointer = buffers.space(key, _nbytes(dtype, shape))
            outputs[name] = self._slot(key, buffers, pointer, dtype, shape)
            binding.bind_output(name, self._kind, 0, _element(dtype), list(shape), pointer)
        options = self._options(next(self._ids) if self._graphs else NO_GRAPH, wait=False)
        start = _Start(self._session.run_with_iobinding, binding, options, self._device)
        self._starts.append(start)
        run = DeviceRun(
            self._device,
            self._stream,
            start,
            {info.name: self._uploaded(feeds, info, buffers) for info in self.inputs},
            outputs,
        )
        run()
        return run

    def _bound(self, feeds: Tensors, buffers: Buffers) -> Any:
        """A binding whose inputs are on the device; ONNX Runtime may read them while it binds."""
        if self._session is None:
            raise RunError("the engine is closed")
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        self._check(arrays)
        pointers = {
            name: buffers.send(f"input {name}", _as_bytes(a), self._stream) for name, a in arrays.items()
        }
        self._device.synchronize(self._stream)
        binding = self._session.io_binding()
        for name, array in arrays.items():
            place = (self._kind, 0, _element(array.dtype), list(array.shape), pointers[name])
            self._checked(binding.bind_input, name, *place)
        return binding

    def _outputs_anywhere(self, binding: Any) -> None:
        for name in self._names:
            self._checked(binding.bind_output, name, self._kind, 0)

    def _start(self, binding: Any, graph: int) -> None:
        self._checked(self._session.run_with_iobinding, binding, self._options(graph))

    def _checked(self, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except ORT_ERRORS as error:
            raise explained(f"ONNX Runtime: {one_line(error)}", self._device.memory) from error

    def _options(self, graph: int, *, wait: bool = True) -> Any:
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        options.add_run_config_entry("disable_synchronize_execution_providers", "0" if wait else "1")
        return options

    def _slot(
        self, key: str, buffers: Buffers, pointer: int, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> Slot:
        staging = buffers.staging(key, _nbytes(dtype, shape))
        return Slot(pointer, staging, lambda: staging.copy().view(dtype).reshape(shape))

    def _uploaded(self, feeds: Tensors, info: TensorInfo, buffers: Buffers) -> Slot:
        key, array = f"input {info.name}", np.asarray(feeds[info.name])
        return self._slot(key, buffers, buffers.space(key, array.nbytes), array.dtype, array.shape)

    def _forget(self) -> None:
        """Device runs may be held longer than the session, which must be freed before the device."""
        starts, self._starts = self._starts, []
        try:
            if starts:
                self._settle(starts[-1].binding)
        finally:
            for start in starts:
                start.run = start.binding = None

    def _settle(self, binding: Any) -> None:
        """One run that waits, after those that did not.

        ONNX Runtime frees pinned memory of its kernels (LSTM's, for one) at the end of a run that waits.
        What is left when the session ends is freed by a thread of the driver, where CUDA forbids it, and the
        process aborts.
        """
        self._start(binding, NO_GRAPH)
        self._device.synchronize(self._stream)

    def close(self) -> None:
        """Free session, bindings and device memory, in that order; again: nothing."""
        if self._session is None:
            return
        with contextlib.suppress(RunError):  # of a device that is lost, say
            self._forget()
        super().close()
        self._device.close()


@dataclass
class _Start:
    """What is timed: nothing but the call, because a small model takes tens of microseconds."""

    run: Any
    binding: Any
    options: Any
    device: Device

    def __call__(self) -> None:
        try:
            self.run(self.binding, self.options)
        except ORT_ERRORS as error:
            raise explained(f"ONNX Runtime: {one_line(error)}", self.device.memory) from error
        except TypeError as error:
            if self.run is not None:
                raise
            raise RunError("the device run is over: its engine is closed or made others since") from error


def _require_stream(session: Any, provider: str, stream: int) -> None:
    got: Mapping[str, str] = session.get_provider_options().get(provider, {})
    if got.get("user_compute_stream", str(stream)) != str(stream):
        raise NotHonouredError(f"{provider} computes on a stream of its own, not on the one asked for")


def _on_device(kind: str) -> bool:
    return NUMPY_NAMES.get(kind, "object") != "object"


def _as_bytes(array: NDArray[Any]) -> Bytes:
    flat: Bytes = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return flat


def _kind_of(value: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    name = NUMPY_NAMES[value.data_type()]
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name), tuple(value.shape())


def _nbytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _element(dtype: np.dtype[Any]) -> Any:
    return ONNX_BFLOAT16 if dtype == ml_dtypes.bfloat16 else dtype.type
