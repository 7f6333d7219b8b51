"""Doubles of TensorRT's runtime and engine over ONNX Runtime.

Enums and callback interfaces are the real ones of TensorRT-RTX, so that its own classes are subclassed;
a test compares every member of a double with the real class.
"""

# ruff: noqa: ARG002 - a double has the parameters of what it stands for
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from harness.backends.tensorrt.bindings import Bindings
from harness.spec.model_spec import Profile
from tests.helpers.lowering import to_proto
from tests.helpers.tensorrt import rtx
from tests.helpers.trt_double.context import Context
from tests.helpers.trt_double.device import HostDevice

DTYPES = {
    "tensor(float)": ("FLOAT", np.float32),
    "tensor(float16)": ("HALF", np.float16),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(bool)": ("BOOL", np.bool_),
}


@dataclass
class Faults:
    """What goes wrong in a double, by the name of the call; `words` is what TensorRT says.

    The plan opens only with the library `plugin` in the runtime's registry, and where it may run `host_code`.
    The tensors `on_host` are shapes, in host memory.  `inconsistent`: shapes cannot be computed.  `formats`
    are memory formats other than LINEAR; debug tensors come on `stream`.  `dtypes` are types that inputs and
    outputs have instead of the model's; `debug` are outputs of the model that are shown as debug tensors.
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
    formats: Mapping[str, str] = field(default_factory=dict)
    stream: int = 7
    dtypes: Mapping[str, str] = field(default_factory=dict)
    debug: tuple[str, ...] = ()


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

    device: HostDevice

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.registry = Registry()
        self.device.dependents.add(self)

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
            **{o.name: o for o in self.session.get_outputs() if o.name not in faults.debug},
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
        asked = self.faults.dtypes if self.device.strict("types") else {}
        return getattr(self.api.DataType, asked.get(name, DTYPES[self.nodes[name].type][0]))

    def get_tensor_shape(self, name: str) -> Any:
        return self.api.Dims([size if isinstance(size, int) else -1 for size in self.nodes[name].shape])

    def get_tensor_format(self, name: str, profile_index: int) -> Any:
        assert profile_index < self.num_optimization_profiles
        return self.api.TensorFormat.__members__[self.faults.formats.get(name, "LINEAR")]

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
        self.inspector = Inspector(self.faults.layers)
        return self.inspector

    def computes(self, name: str) -> Any:
        """The NumPy type in which the model computes a tensor."""
        return DTYPES[self.nodes[name].type][1]

    def say(self, words: str = "") -> None:
        self.logger.log(self.api.ILogger.Severity.ERROR, words or self.faults.words)


class Inspector:
    """`trt.EngineInspector`; `profile` and `shapes` are those of the context that it was given."""

    profile: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, layers: str) -> None:
        self.layers = layers

    @property
    def execution_context(self) -> None:
        return None

    @execution_context.setter
    def execution_context(self, context: Context) -> None:
        self.profile, self.shapes = context.profile, dict(context.shapes)

    def get_engine_information(self, format: Any) -> str:  # noqa: A002 - TensorRT's name
        return self.layers


def session_of(model: ir.Model) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
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
    runtime = type("Runtime", (Runtime,), {"known": {b"plan": engine}, "api": real, "device": device})
    if plan is not None:
        plan.write_bytes(b"plan")
    names = (
        "ILogger",
        "TensorIOMode",
        "TensorLocation",
        "TensorFormat",
        "DataType",
        "IOutputAllocator",
        "IDebugListener",
        "LayerInformationFormat",
        "DynamicShapesKernelSpecializationStrategy",
    )
    parts = {name: getattr(real, name) for name in names}
    parts["init_libnvinfer_plugins"] = lambda *_: True
    api = SimpleNamespace(__version__="1.7.1.116", Runtime=runtime, **parts)
    return Bindings("tensorrt_rtx", api, (1, 7)), device, engine
