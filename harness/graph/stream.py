"""Writing an ONNX protobuf tensor by tensor, so that lazy weights exist one at a time.

The bytes are those of an ordinary `ModelProto`; a protobuf library would hold all weights twice to make them.
"""

from __future__ import annotations

from typing import IO, Any

import onnx
import onnx_ir as ir

Stored = ir.Tensor[Any] | ir.LazyTensor | ir.serde.TensorProtoTensor
"""Tensors that write themselves to a file."""

_STORED = (ir.Tensor, ir.LazyTensor, ir.serde.TensorProtoTensor)
_STREAMED_BYTES = 1024
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_LENGTH_DELIMITED = 2


def write_model(model: ir.Model, file: IO[bytes]) -> None:
    """Write `model`, which this takes apart: its large initializers are gone afterwards."""
    large = _take_large(model.graph)
    proto = ir.serde.serialize_model(model)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    heads = [_head(name, tensor) for name, tensor in large]
    sizes = [len(head) + tensor.nbytes for head, (_, tensor) in zip(heads, large, strict=True)]
    fields = [_field(_INITIALIZER, size) for size in sizes]
    file.write(proto.SerializeToString())
    file.write(_field(_GRAPH, len(graph) + sum(map(len, fields)) + sum(sizes)))
    file.write(graph)
    for field, head, (_, tensor) in zip(fields, heads, large, strict=True):
        file.write(field)
        file.write(head)
        tensor.tofile(file)


def _take_large(graph: ir.Graph) -> list[tuple[str, Stored]]:
    taken = []
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if isinstance(tensor, _STORED) and _is_streamed(tensor):
            taken.append((name, tensor))
            graph.initializers.pop(name)
    return taken


def _is_streamed(tensor: Stored) -> bool:
    whole_bytes = tensor.dtype != ir.DataType.STRING and tensor.dtype.bitwidth >= 8
    return whole_bytes and tensor.nbytes > _STREAMED_BYTES


def _head(name: str, tensor: Stored) -> bytes:
    """The tensor's message up to the content of its raw data, which comes last."""
    proto = onnx.TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    return proto.SerializeToString() + _field(_RAW_DATA, tensor.nbytes)


def _field(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(size)


def _varint(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])
