"""Doubles of TensorRT's runtime, engine and context over ONNX Runtime, and of a GPU over host memory.

Enums and callback interfaces are the real ones of TensorRT-RTX, so that its own classes are subclassed;
a test compares every member of a double with the real class.  Copies wait for the stream, as on a device.
"""

# ruff: noqa: ARG002 - a double has the parameters of what it stands for
from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from harness.backends.cuda.device import DeviceInfo, host_view, no_memory
from harness.backends.tensorrt.bindings import Bindings
from harness.backends.tensorrt.errors import fits
from harness.backends.tensorrt.types import NUMPY, to_bytes
from harness.spec.model_spec import Profile
from tests.helpers.lowering import to_proto
from tests.helpers.tensorrt import rtx

TRT_NAMES = {str(dtype): name for name, dtype in NUMPY.items()}
DTYPES = {
    "tensor(float)": "FLOAT",
    "tensor(float16)": "HALF",
    "tensor(int64)": "INT64",
    "tensor(bool)": "BOOL",
}


@dataclass
class HostDevice:
    """A device of `limit` bytes of host memory.  Copies happen when the stream is waited for."""

    limit: int = 1 << 20
    closed: int = 0
    used: int = 0
    memory_of: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    queue: list[Callable[[], object]] = field(default_factory=list)
    buffers: list[NDArray[np.uint8]] = field(default_factory=list)

    def info(self) -> DeviceInfo:
        return DeviceInfo("Double", "8.9", "13.0")

    def memory(self) -> tuple[int, int]:
        return self.limit - self.used, self.limit

    def allocate(self, nbytes: int) -> int:
        if nbytes > self.limit - self.used:
            raise no_memory(nbytes, *self.memory())
        block = np.full(max(1, nbytes), 0xAB, np.uint8)
        self.memory_of[block.ctypes.data] = block
        self.used += block.nbytes
        return int(block.ctypes.data)

    def free(self, pointer: int) -> None:
        self.used -= self.memory_of.pop(pointer).nbytes

    def pinned(self, nbytes: int) -> NDArray[Any]:
        self.buffers.append(np.full(nbytes, 0xCD, np.uint8))
        return self.buffers[-1]

    def view(self, address: int, nbytes: int) -> NDArray[Any]:
        return host_view(address, nbytes)

    def upload(self, pointer: int, buffer: NDArray[Any], stream: int) -> None:
        assert pointer in self.memory_of
        self.queue.append(lambda: ctypes.memmove(pointer, buffer.ctypes.data, buffer.nbytes))

    def download(self, buffer: NDArray[Any], pointer: int, stream: int) -> None:
        assert pointer in self.memory_of
        self.queue.append(lambda: ctypes.memmove(buffer.ctypes.data, pointer, buffer.nbytes))

    def create_stream(self) -> int:
        return 7

    def synchronize(self, stream: int) -> None:
        assert stream == 7
        while self.queue:
            self.queue.pop(0)()

    def create_event(self) -> int:
        return 9

    def record(self, event: int, stream: int) -> None: ...

    def elapsed_s(self, start: int, end: int) -> float:
        return 0.0

    def close(self) -> None:
        self.closed += 1


@dataclass
class Faults:
    """What goes wrong in a double, by the name of the call; `words` is what TensorRT says.

    The plan opens only with the library `plugin` in the runtime's registry, and where it may run `host_code`.
    The tensors `on_host` are shapes, in host memory.  `inconsistent`: shapes cannot be computed.
    """

    calls: tuple[str, ...] = ()
    words: str = ""
    data_dependent: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    layers: str = '{"Layers": []}'
    plugin: str = ""
    host_code: bool = False
    on_host: tuple[str, ...] = ()
    inconsistent: bool = False


@dataclass
class Registry:
    """`trt.IPluginRegistry`: any library whose name starts with `lib` loads."""

    libraries: list[str] = field(default_factory=list)

    def load_library(self, plugin_path: str) -> object | None:
        loads = Path(plugin_path).name.startswith("lib")
        self.libraries += [plugin_path] if loads else []
        return self if loads else None


class Runtime:
    """`trt.Runtime`: opens plans that are names of models in `known`."""

    known: Mapping[bytes, Engine]
    api: Any
    engine_host_code_allowed = False
    DLA_core = -1

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.registry = Registry()

    def get_plugin_registry(self) -> Registry:
        return self.registry

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        engine = self.known.get(bytes(serialized_engine))
        said = (
            "Serialization assertion magicTag == kEXPECTED failed"
            if engine is None
            else self._refusal(engine)
        )
        if engine is None or said is not None:
            self.logger.log(self.api.ILogger.Severity.ERROR, said)
            return None
        engine.logger = self.logger
        return engine

    def _refusal(self, engine: Engine) -> str | None:
        faults = engine.faults
        if faults.host_code and not self.engine_host_code_allowed:
            return "engine host code is not allowed"
        if faults.plugin and faults.plugin not in self.registry.libraries:
            return "Cannot find plugin"
        return faults.words if "deserialize_cuda_engine" in faults.calls else None


class Engine:
    """`trt.ICudaEngine` of an ONNX model with profiles."""

    def __init__(
        self, api: Any, model: ir.Model, profiles: tuple[Profile, ...], device: HostDevice, faults: Faults
    ) -> None:
        self.api, self.profiles, self.device, self.faults = api, profiles, device, faults
        self.session = session_of(model)
        self.logger: Any = None
        self.nodes = {
            **{i.name: i for i in self.session.get_inputs()},
            **{o.name: o for o in self.session.get_outputs()},
        }
        self.contexts = 0
        self.settings: list[Any] = []

    name = "double"
    device_memory_size_v2 = 4096

    @property
    def num_io_tensors(self) -> int:
        return len(self.nodes)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self.nodes)[index]

    def get_tensor_mode(self, name: str) -> Any:
        inputs = {i.name for i in self.session.get_inputs()}
        return self.api.TensorIOMode.INPUT if name in inputs else self.api.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self.api.DataType, DTYPES[self.nodes[name].type])

    def get_tensor_shape(self, name: str) -> Any:
        return self.api.Dims([size if isinstance(size, int) else -1 for size in self.nodes[name].shape])

    def get_tensor_location(self, name: str) -> Any:
        location = self.api.TensorLocation
        return location.HOST if name in self.faults.on_host else location.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        part = self.profiles[profile_index].shapes[name]
        return [self.api.Dims(list(shape)) for shape in (part.min, part.opt, part.max)]

    def create_runtime_config(self) -> Any:
        lazy = self.api.DynamicShapesKernelSpecializationStrategy.LAZY
        return SimpleNamespace(dynamic_shapes_kernel_specialization_strategy=lazy)

    def create_execution_context(self, runtime_config: Any = None) -> Context | None:
        if "create_execution_context" in self.faults.calls:
            self.say()
            return None
        self.contexts += 1
        self.settings.append(runtime_config)
        return Context(self)

    def create_engine_inspector(self) -> Any:
        self.inspector = SimpleNamespace(
            execution_context=None, get_engine_information=lambda _: self.faults.layers
        )
        return self.inspector

    def say(self) -> None:
        self.logger.log(self.api.ILogger.Severity.ERROR, self.faults.words)


class Context:
    """`trt.IExecutionContext` that computes on host memory."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.profile = -1
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.listener: Any = None
        self.debugging = self.showing = False

    def _fails(self, call: str) -> bool:
        if call in self.engine.faults.calls:
            self.engine.say()
        return call in self.engine.faults.calls

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self._fails("set_optimization_profile_async"):
            raise RuntimeError("Error in set optimization profile async.")
        self.profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        part = self.engine.profiles[self.profile].shapes.get(name)
        self.shapes[name] = shape
        fixed = tuple(self.engine.get_tensor_shape(name))
        low, high = (part.min, part.max) if part else (fixed, fixed)
        return fits(shape, low, high) and not self._fails("set_input_shape")

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return memory != 0 and not self._fails("set_tensor_address")

    def infer_shapes(self) -> list[str]:
        if self.engine.faults.inconsistent:
            self.engine.say()
            raise RuntimeError("infer_shapes error code: -1")
        return ["x"] if self._fails("infer_shapes") else []

    def get_tensor_shape(self, name: str) -> Any:
        if name in self.engine.faults.data_dependent:
            return self.engine.api.Dims([-1] * len(self.engine.nodes[name].shape))
        known = self.engine.faults.on_host
        zeros = {
            n: self._read(n) if n in known else np.zeros(s, self._dtype(n)) for n, s in self.shapes.items()
        }
        outputs = dict(zip(self._outputs(), self.engine.session.run(self._outputs(), zeros), strict=True))
        return self.engine.api.Dims(list(self.shapes.get(name, np.shape(outputs.get(name)))))

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self.allocators[name] = output_allocator
        return not self._fails("set_output_allocator")

    def set_debug_listener(self, listener: Any) -> bool:
        self.listener = listener
        return not self._fails("set_debug_listener")

    @property
    def unfused_tensors_debug_state(self) -> bool:
        return self.showing

    @unfused_tensors_debug_state.setter
    def unfused_tensors_debug_state(self, flag: bool) -> None:
        self.showing = flag and not self._fails("unfused_tensors_debug_state")

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        self.debugging = flag
        return not self._fails("set_all_tensors_debug_state")

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.engine.device.synchronize(stream_handle)  # what is queued comes before the kernels
        if self._fails("execute_async_v3"):
            return False
        feeds = {name: self._read(name) for name in self.shapes}
        values = dict(zip(self._outputs(), self.engine.session.run(self._outputs(), feeds), strict=True))
        self._show(feeds)
        return all(self._write(name, value) for name, value in values.items())

    def _outputs(self) -> list[str]:
        return [output.name for output in self.engine.session.get_outputs()]

    def _dtype(self, name: str) -> Any:
        return NUMPY[self.engine.get_tensor_dtype(name).name]

    def _read(self, name: str) -> NDArray[Any]:
        dtype, shape = self._dtype(name), self.shapes[name]
        data = host_view(self.addresses[name], int(np.prod(shape)) * dtype.itemsize)
        return data.copy().view(dtype).reshape(shape)

    def _write(self, name: str, value: NDArray[Any]) -> bool:
        allocator = self.allocators.get(name)
        if name in self.engine.faults.silent:
            return True
        if allocator is not None:
            address = allocator.reallocate_output_async(name, 0, max(1, value.nbytes), 256, 7)
            if address == 0:
                self.engine.say()
                return False
            allocator.notify_shape(name, self.engine.api.Dims(list(value.shape)))
        else:
            address = self.addresses[name]
        host_view(address, value.nbytes)[:] = to_bytes(TRT_NAMES[str(value.dtype)], value)
        return True

    def _show(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Shows each input as a debug tensor: `t` on the device, `h` on the host."""
        if self.listener is None or not (self.debugging or self.unfused_tensors_debug_state):
            return
        api = self.engine.api
        for name, value in feeds.items():
            shown = f"shown_{name}.1_15_myl0" if self.unfused_tensors_debug_state else f"shown_{name}"
            address = self.engine.device.allocate(value.nbytes)
            host_view(address, value.nbytes)[:] = value.reshape(-1).view(np.uint8)
            kind = self.engine.get_tensor_dtype(name)
            shape = api.Dims(list(value.shape))
            self.listener.process_debug_tensor(address, api.TensorLocation.DEVICE, kind, shape, shown, 7)


def session_of(model: ir.Model) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(
        to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def double(
    model: ir.Model,
    profiles: tuple[Profile, ...],
    faults: Faults | None = None,
    device: HostDevice | None = None,
    plan: Path | None = None,
) -> tuple[Bindings, HostDevice, Engine]:
    """Bindings whose runtime opens the plan `plan`, written here, as `model`."""
    real = rtx().api
    device = device or HostDevice()
    engine = Engine(real, model, profiles, device, faults or Faults())
    runtime = type("Runtime", (Runtime,), {"known": {b"plan": engine}, "api": real})
    if plan is not None:
        plan.write_bytes(b"plan")
    names = (
        "ILogger",
        "TensorIOMode",
        "TensorLocation",
        "IOutputAllocator",
        "IDebugListener",
        "LayerInformationFormat",
        "DynamicShapesKernelSpecializationStrategy",
    )
    parts = {name: getattr(real, name) for name in names}
    parts["init_libnvinfer_plugins"] = lambda *_: True
    api = SimpleNamespace(__version__="1.7.1.116", Runtime=runtime, **parts)
    return Bindings("tensorrt_rtx", api, (1, 7)), device, engine
