"""Small models from ONNX text, and two evaluators: ONNX Runtime on the CPU, and onnx's reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from harness.graph import file as onnx_file
from harness.graph.walk import all_nodes, all_values
from harness.lowering.passes.normalise import normalise

Arrays = Mapping[str, NDArray[Any]]


def proto(text: str, opset: int = 19, functions: str = "") -> onnx.ModelProto:
    """A model of IR version 9 whose graph, and functions, are `text` in ONNX's text form."""
    header = f'<ir_version: 9, opset_import: ["" : {opset}, "local" : 1, "custom" : 1]>'
    return onnx.parser.parse_model(f"{header}\n{text}\n{functions}")


def model(text: str, opset: int = 19, **weights: NDArray[Any]) -> ir.Model:
    """A normalised model; `weights` become initializers."""
    return normalise(raw(text, opset, **weights))


def raw(text: str, opset: int = 19, **weights: NDArray[Any]) -> ir.Model:
    """The model of `text` as it is; `weights` become initializers."""
    parsed = proto(text, opset)
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in weights.items())
    return ir.serde.deserialize_model(parsed)


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """`model` with all weights inside."""
    return ir.serde.serialize_model(onnx_file.inline(model))


def run(model: ir.Model, feeds: Arrays, *, optimised: bool = False, tensors: bool = False) -> dict[str, Any]:
    """Outputs on ONNX Runtime's CPU provider by name; with `tensors`, those that nodes make as well."""
    built = to_proto(model)
    if tensors:
        known = {output.name for output in built.graph.output}
        made = [v for v in all_values(model) if v.producer() is not None and v.graph is model.graph]
        names = [v.name for v in made if v.name not in known]
        built.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    session = ort.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def reference(model: ir.Model, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """All tensors of `model` by onnx's reference evaluator, which computes FP16 in NumPy's FP16."""
    found = ReferenceEvaluator(to_proto(model)).run(None, dict(feeds), intermediate=True)
    return {name: array for name, array in found.items() if name}


def tensor_names(model: ir.Model) -> set[str]:
    """Names of all tensors of `model`."""
    return {value.name for value in all_values(model) if value.name}


def node_names(model: ir.Model) -> list[str]:
    """Names of all nodes of `model`, in order."""
    return [node.name or "" for node in all_nodes(model.graph)]


def types(model: ir.Model) -> dict[str, str]:
    """The type of every tensor of `model`, as ONNX calls it."""
    return {v.name: v.dtype.name for v in all_values(model) if v.name and v.dtype is not None}


def mre(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Sum of absolute differences over sum of magnitudes."""
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    return float(np.abs(actual - expected).sum() / np.abs(expected).sum())
