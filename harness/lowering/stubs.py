"""Models without their weights, for onnx's C++ functions, which copy all that they are given."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir

from harness.graph.file import clone
from harness.graph.walk import all_graphs

_STUB_BYTES = 4096
"""Larger tensors are taken out; shapes, axes and scales, which the C++ functions read, are smaller."""

_FOLDER = "taken-out/"


def through(model: ir.Model, change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """`change` applied to `model`, whose large weights stay out of the way and are shared by the result."""
    bare, tensors = _take_out(model)
    changed = ir.serde.deserialize_model(change(ir.serde.serialize_model(bare)))
    _put_back(changed, tensors)
    return changed


def without_weights(model: ir.Model) -> onnx.ModelProto:
    """`model` as protobuf, its large weights named only, as external data of files that do not exist."""
    return ir.serde.serialize_model(_take_out(model)[0])


def _take_out(model: ir.Model) -> tuple[ir.Model, dict[str, ir.TensorProtocol]]:
    bare = clone(model)
    tensors: dict[str, ir.TensorProtocol] = {}
    for graph in all_graphs(bare):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and (tensor.nbytes > _STUB_BYTES or isinstance(tensor, ir.ExternalTensor)):
                location = f"{_FOLDER}{len(tensors)}"
                tensors[location] = tensor
                value.const_value = _stub(value, tensor, location)
    return bare, tensors


def _stub(value: ir.Value, tensor: ir.TensorProtocol, location: str) -> ir.ExternalTensor:
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor(location, None, None, tensor.dtype, shape=shape, name=value.name or "")


def _put_back(model: ir.Model, tensors: dict[str, ir.TensorProtocol]) -> None:
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                value.const_value = tensors[str(tensor.location)]
