"""What an ONNX file must fulfil before it is turned into a model; works on the parsed protobuf.

Nothing here reads weights.  Every broken rule is a `ModelError` of one line that names the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from harness.errors import ModelError, shorten
from harness.graph import functions
from harness.graph import schema as onnx_schema

OPSETS = range(7, 27)
"""Opset versions of the default domain that are read."""

MAX_DEPTH = 24
"""How deep graphs may be nested in each other."""


_CAFFE = "a Caffe model, which TensorRT no longer reads: convert it to ONNX, with caffe2onnx for one"
_TORCH = "a PyTorch model: export it with torch.onnx.export"
_PLAN = "a finished engine: name it as `engine` in [model], beside the ONNX file it was built from"
OTHER_FORMATS = {
    ".uff": "a UFF model, which TensorRT no longer reads: convert it to ONNX with tf2onnx",
    ".pb": "a TensorFlow graph: convert it with tf2onnx",
    ".caffemodel": _CAFFE,
    ".prototxt": _CAFFE,
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".plan": _PLAN,
    ".engine": _PLAN,
    ".toml": "a spec, where an ONNX model is wanted: name it as one, as with --trt-spec",
}
"""What users hand over for ONNX, by suffix, and the way out."""


def parse(path: Path) -> onnx.ModelProto:
    """The protobuf in the file `path`, without external data.  Raises ModelError."""
    if path.suffix.lower() in OTHER_FORMATS:
        raise ModelError(f"{path}: {OTHER_FORMATS[path.suffix.lower()]}")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise ModelError(f"{path}: not an ONNX model, or truncated: {error}") from error
    return proto


def check(proto: onnx.ModelProto, path: Path) -> None:
    """Raise ModelError if `proto`, read from `path`, breaks a rule."""
    if not proto.ir_version or not proto.HasField("graph") or not proto.graph.output:
        raise ModelError(f"{path}: not an ONNX model, or truncated: no graph with outputs")
    _check_opset(proto, path)
    if problem := functions.misuse(proto):
        raise ModelError(f"{path}: {problem}")
    for graph, depth in graphs(proto):
        if depth > MAX_DEPTH:
            raise ModelError(f"{path}: graphs are nested deeper than {MAX_DEPTH}")
        if graph.sparse_initializer:
            name = graph.sparse_initializer[0].values.name
            raise ModelError(f"{path}: sparse initializer {shorten(name)}: not supported, store it dense")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        if _holds_maps(value.type):
            rule = f"{shorten(value.name)} holds maps, which no engine has: export without ZipMap"
            raise ModelError(f"{path}: {rule} (skl2onnx: options={{'zipmap': False}})")
    for tensor in tensors(proto):
        _check_tensor(tensor, path)
    for misuse in onnx_schema.misuses(nodes(proto), _opset(proto)):
        raise ModelError(f"{path}: {misuse}")


def _holds_maps(kind: onnx.TypeProto) -> bool:
    while kind.HasField("sequence_type"):
        kind = kind.sequence_type.elem_type
    return kind.HasField("map_type")


def _opset(proto: onnx.ModelProto) -> int:
    return next(o.version for o in proto.opset_import if o.domain in onnx_schema.DEFAULT_DOMAINS)


def _check_opset(proto: onnx.ModelProto, path: Path) -> None:
    found = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    if not found:
        raise ModelError(f"{path}: no opset of the default domain, or truncated")
    if len(set(found)) > 1:
        raise ModelError(f"{path}: states several opsets of the default domain: {shorten(found)}")
    if found[0] not in OPSETS:
        rule = f"must be {OPSETS.start} to {OPSETS.stop - 1}"
        raise ModelError(f"{path}: opset {found[0]} is not supported: {rule}")


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    if tensor.data_type not in onnx.TensorProto.DataType.values() or not tensor.data_type:
        raise ModelError(f"{path}: tensor {shorten(tensor.name)}: unknown type {tensor.data_type}")
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"{path}: tensor {shorten(tensor.name)}: negative dimension")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, path)
    elif (needed := nbytes(tensor)) is not None and needed != (found := _stored(tensor)):
        has = f"has {found} bytes, its shape needs {needed}"
        raise ModelError(f"{path}: tensor {shorten(tensor.name)} {has}: truncated or broken")
    elif tensor.data_type in _UNCHECKED and not _readable(tensor):
        raise ModelError(
            f"{path}: tensor {shorten(tensor.name)} does not fill its shape: truncated or broken"
        )


def _readable(tensor: onnx.TensorProto) -> bool:
    """Whether ONNX itself makes an array of a tensor of strings, packed or complex elements."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return len(tensor.string_data) == math.prod(tensor.dims)
    if math.prod(tensor.dims) > _PER_BYTE * tensor.ByteSize():
        return False
    try:
        onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, RuntimeError, NotImplementedError):
        return False
    return True


def _stored(tensor: onnx.TensorProto) -> int:
    """Bytes of the content of `tensor`, in whichever field it is."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    counts = (len(getattr(tensor, field)) for field in _FIELDS)
    return max(counts) * _itemsize(tensor)


_PER_BYTE = 4
"""Elements of the smallest packed type in a byte."""

_FIELDS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")


def nbytes(tensor: onnx.TensorProto) -> int | None:
    """Bytes that the type and shape of `tensor` need; None for strings, packed and complex elements."""
    return None if tensor.data_type in _UNCHECKED else math.prod(tensor.dims) * _itemsize(tensor)


def _least(tensor: onnx.TensorProto) -> int | None:
    """Bytes that `tensor` needs, packed ones too; None for strings."""
    if (needed := nbytes(tensor)) is not None or tensor.data_type == onnx.TensorProto.STRING:
        return needed
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    bits = next(bits for start, bits in _BITS.items() if name.startswith(start))
    return -(-math.prod(tensor.dims) * bits // 8)


def _itemsize(tensor: onnx.TensorProto) -> int:
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


_BITS = {
    "COMPLEX128": 128, "COMPLEX64": 64, "FLOAT6": 6,
    "INT4": 4, "UINT4": 4, "FLOAT4": 4, "INT2": 2, "UINT2": 2,
}  # fmt: skip
"""Bits of the elements that NumPy has no type of the same size for, and of complex ones."""

_UNCHECKED = {
    value for name, value in onnx.TensorProto.DataType.items() if name.startswith(("UNDEF", "STRING", *_BITS))
}


def _check_external(tensor: onnx.TensorProto, path: Path) -> None:
    entry = {_text(item.key): _text(item.value) for item in tensor.external_data}
    where = f"{path}: external data of {shorten(tensor.name)}"
    location = entry.get("location", "")
    file = _inside(path.parent, location, where)
    start, length = (_number(entry.get(key), key, where) for key in ("offset", "length"))
    needed = _least(tensor)
    if needed is None:
        raise ModelError(f"{where}: strings cannot be stored outside the model")
    if length is not None and length < needed:
        raise ModelError(f"{where}: length {length} is less than the {needed} bytes of its shape")
    end = (start or 0) + needed
    if file.stat().st_size < end:
        raise ModelError(f"{where}: {shorten(location)} is truncated: needs {end} bytes")


_DIGITS = 19
"""Digits of the largest offset and length that a file can have."""


def _number(text: str | None, key: str, where: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > _DIGITS:
        raise ModelError(f"{where}: {key} {shorten(text)} is not a number")
    return int(text)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _inside(folder: Path, location: str, where: str) -> Path:
    """The file at `location`, which must lie in `folder` after links are followed."""
    file = folder / location
    escapes = not location or Path(location).is_absolute() or ".." in Path(location).parts
    try:
        if escapes or not file.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{where}: {shorten(location)} leaves the model's folder")
        if not file.is_file():
            raise ModelError(f"{where}: file {shorten(location)} is missing")
    except (OSError, ValueError) as error:
        raise ModelError(f"{where}: {shorten(location)} is no name of a file") from error
    if file.stat().st_nlink > 1:
        raise ModelError(f"{where}: {shorten(location)} is a hard link to another file: copy it")
    return file


def graphs(proto: onnx.ModelProto) -> Iterator[tuple[onnx.GraphProto, int]]:
    """Every graph in `proto` with its depth, the main graph (depth 0) first."""
    stack = [(proto.graph, 0)]
    for function in proto.functions:
        stack.extend((inner, 1) for inner in _graphs_in(function.node))
    while stack:
        graph, depth = stack.pop()
        yield graph, depth
        stack.extend((inner, depth + 1) for inner in _graphs_in(graph.node))


def _graphs_in(nodes: Any) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node in `proto`, those of subgraphs and functions too."""
    for function in proto.functions:
        yield from function.node
    for graph, _ in graphs(proto):
        yield from graph.node


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant tensor in `proto`: initializers and attributes."""
    for graph, _ in graphs(proto):
        yield from graph.initializer
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
