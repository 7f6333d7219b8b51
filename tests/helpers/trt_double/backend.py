"""A backend of TensorRT whose builder and runtime are doubles: it builds, instruments and runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from harness.backends.tensorrt import backend as tensorrt
from harness.backends.tensorrt.backend import TensorRTBackend
from harness.backends.tensorrt.builder.build import Aids, BuildTask, Built
from harness.backends.tensorrt.network import NetworkLayer, NetworkTensor
from harness.errors import BuildError
from harness.precision import Precision
from tests.helpers.tensorrt import rtx
from tests.helpers.trt_double.device import HostDevice
from tests.helpers.trt_double.engine import Engine, Faults, double

WORDS = {
    Precision.FP16: "Half", Precision.BF16: "BFloat16", Precision.INT8: "Int8", Precision.INT8_FP16: "Int8",
}  # fmt: skip
NAMES = {"Half": "HALF", "BFloat16": "BF16", "Int8": "INT8", "Float": "FLOAT"}
CACHE = "TRT-101303-EntropyCalibration2\nx: 3c010204\n"
PRODUCTS = {"MatMul": "MATRIX_MULTIPLY"}


class Works:
    """Plans by their bytes, each a model: what the builder writes and the runtime opens.

    `takes_shapes`: inputs that hold shapes are not refused.
    """

    takes_shapes = False

    def __init__(self, patch: pytest.MonkeyPatch, version: tuple[int, int] = (10, 13), **spoilt: Any) -> None:
        self.spoilt = spoilt
        self.device = HostDevice(1 << 24, lenient=frozenset({"freed"}))  # one for several engines
        bindings, _, _ = double(_identity(), (), Faults(), self.device)
        self.plans: dict[bytes, Engine] = bindings.api.Runtime.known  # type: ignore[attr-defined]
        self.plans.clear()
        self.backend = TensorRTBackend("tensorrt", isolate=False)
        self.bindings = replace(bindings, name="tensorrt", version=version)
        patch.setattr(TensorRTBackend, "bindings", self.bindings)
        patch.setattr(tensorrt, "build", self.build)
        patch.setattr(tensorrt.device, "open_device", lambda *_: self.device)
        patch.setattr("harness.backends.tensorrt.options._unknown_names", lambda *_: iter(()))

    def build(self, _: Any, task: BuildTask, path: Path, plan: Path, aids: Aids) -> Built:
        proto = _runnable(onnx.load(path))
        shapes = [shape for profile in task.profiles for shape in profile.shapes.values()]
        if not self.takes_shapes and any(len(shape.min) == 1 for shape in shapes):
            raise BuildError("inputs ['n'] hold shapes: TensorRT needs ranges of their values")
        calibration = CACHE if aids.calibration and list(aids.calibration.batches()) else ""
        if aids.timing_cache is not None:
            aids.timing_cache.path.parent.mkdir(parents=True, exist_ok=True)
            aids.timing_cache.path.write_bytes(b"timings")
        debug = task.outputs if task.marking != "marked outputs" else ()
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in task.outputs)
        kind = WORDS.get(task.precision, "Float")
        words = {node.name: "Float" if node.name in task.kept else kind for node in proto.graph.node}
        if task.precision is Precision.INT8_FP16:
            words |= {node.name: "Half" for node in proto.graph.node if node.op_type == "Relu"}
        nodes = [(n.name, n.op_type, words[n.name], n.output[0]) for n in proto.graph.node]
        faults = Faults(layers=json.dumps({"Layers": [_listed(*node) for node in nodes]}), debug=debug)
        if any(node.op_type == "NonZero" for node in proto.graph.node):
            faults.data_dependent = ("y",)
        faults = replace(faults, **self.spoilt)
        name = f"plan {len(self.plans)}".encode()
        model = ir.serde.deserialize_model(proto)
        self.plans[name] = Engine(rtx().api, model, task.profiles, self.device, faults)
        plan.write_bytes(name)
        network = tuple(_layer(*node) for node in nodes)
        outputs = tuple(value.name for value in proto.graph.output if value.name not in debug)
        version = str(self.bindings.api.__version__)
        return Built(version, network, ("x",), outputs, (), (), 0.1, calibration)


def _runnable(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with FP16 for BF16, which ONNX Runtime's CPU provider does not compute in."""
    bf16, half = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT16
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == bf16:
                attribute.i = half
    for tensor in proto.graph.initializer:
        if tensor.data_type == bf16:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    del proto.graph.value_info[:]
    return proto


def _layer(name: str, op_type: str, word: str, output: str) -> NetworkLayer:
    made = (NetworkTensor(output, NAMES[word], (-1, 8)),)
    return NetworkLayer(name, PRODUCTS.get(op_type, "ELEMENTWISE"), name, (), made)


def _listed(name: str, op_type: str, word: str, output: str) -> dict[str, Any]:
    def tensor(of: str) -> dict[str, Any]:
        return {"Name": of, "Dimensions": [-1, 8], "Datatype": word, "Format": "Row major"}

    metadata = f"[ONNX Layer: {name}]"
    return {"Name": name, "LayerType": op_type, "Inputs": [tensor("in")], "Outputs": [tensor(output)],
            "Metadata": metadata}  # fmt: skip


def _identity() -> ir.Model:
    from tests.helpers.lowering import model

    return model("g (float[1] x) => (float[1] y) { y = Identity (x) }")
