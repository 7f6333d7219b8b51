"""A model for ONNX Runtime without its large weights, and the weights beside it, in memory that is shared.

A model that is serialised with its weights is copied three times on the way to a session, and protobuf ends
at 2 GiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from harness.backends.onnxruntime.values import to_ort
from harness.graph import file as onnx_file

LARGE_BYTES = 4096
_SHARED = frozenset(
    {
        *(ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16),
        *(ir.DataType.INT8, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8),
    }
)


@dataclass(frozen=True)
class Detached:
    """A model, and the initializers that it only names."""

    model: onnx.ModelProto
    weights: Mapping[str, ir.TensorProtocol]

    def values(self) -> dict[str, Any]:
        """ONNX Runtime's values of the weights."""
        return {name: to_ort(np.asarray(tensor.numpy())) for name, tensor in self.weights.items()}


def detach(model: ir.Model) -> Detached:
    """`model` without the large initializers of its main graph, nor unused ones; the rest is inside."""
    bare, weights = onnx_file.inline(model), dict[str, ir.TensorProtocol]()
    _drop_unused(bare.graph)
    for value in bare.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and value.name and _large(tensor):
            weights[value.name] = tensor
            value.const_value = _stub(value.name, tensor)
    return Detached(ir.serde.serialize_model(bare), weights)


def _drop_unused(graph: ir.Graph) -> None:
    """ONNX Runtime drops what nothing reads by itself, and then looks for it when it is given its weights."""
    unused = [n for n, v in graph.initializers.items() if not v.uses() and not v.is_graph_output()]
    for name in unused:
        graph.initializers.pop(name)


def _large(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype in _SHARED and tensor.nbytes > LARGE_BYTES


def _stub(name: str, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        "weights", None, None, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
    )
