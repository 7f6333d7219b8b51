"""ONNX files: read safely, write atomically; models are `onnx_ir.Model` with weights shared by reference.

Weights are not copied when models are cloned; external data stays in its file, memory-mapped.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import warnings
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.external_data import set_base_dir

from harness.errors import ModelError
from harness.graph import names as onnx_names
from harness.graph import proto as onnx_proto
from harness.graph.scopes import unhide
from harness.graph.stream import write_model
from harness.graph.walk import all_graphs, all_nodes, defects
from harness.paths import written

EXTERNAL_BYTES = 1_500_000_000
"""Weights of more bytes than this go to a file beside the model; protobuf itself ends at 2 GiB."""

_SMALL_BYTES = 1024

# It logs what `defects` finds as well, with names as they are, whatever a terminal makes of them.
logging.getLogger("onnx_ir").setLevel(logging.ERROR)


def read(path: str | Path) -> ir.Model:
    """The model in the ONNX file `path`; every node has a name, nodes are in topological order.

    External data is mapped, not loaded.  Raises ModelError: not ONNX, truncated, external data outside the
    model's folder, missing or too short, an unsupported opset, graphs nested too deep, a broken graph.
    """
    path = Path(path)
    proto = onnx_proto.parse(path)
    onnx_proto.check(proto, path)
    onnx_names.repair(proto)
    model = _deserialize(proto, path)
    for graph in _graphs_and_bodies(model):
        unhide(graph)
        set_base_dir(graph, os.path.abspath(path.parent))
        _map_attributes(graph)
    _hold_empty(model)
    _allow_maps(model)
    _sort(model, path)
    return model


def _deserialize(proto: onnx.ModelProto, path: Path) -> ir.Model:
    try:
        with warnings.catch_warnings():
            # onnx warns of keys of external data that it does not know; they mean nothing here.
            warnings.simplefilter("ignore", UserWarning)
            return ir.serde.deserialize_model(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: cannot be taken: {_first_cause(error)}") from error


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


def _graphs_and_bodies(model: ir.Model) -> list[ir.Graph]:
    return [model.graph, *(function.graph for function in model.functions.values())]


def _map_attributes(graph: ir.Graph) -> None:
    """Hold external tensors of attributes as mapped arrays, since only initializers may stay external."""
    for node in all_nodes(graph):
        for name, attribute in list(node.attributes.items()):
            if attribute.type != ir.AttributeType.TENSOR or attribute.is_ref():
                continue
            tensor = attribute.as_tensor()
            if isinstance(tensor, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, ir.Tensor(tensor.numpy(), name=tensor.name))


def _hold_empty(model: ir.Model) -> None:
    """Hold external weights without elements in memory: nothing can be mapped, and onnx_ir reads none."""
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and tensor.size == 0:
                value.const_value = ir.Tensor(tensor.numpy(), name=tensor.name, dtype=tensor.dtype)


def _allow_maps(model: ir.Model) -> None:
    """Raise the limit of open files by one for each external weight, whose map keeps a descriptor."""
    values = (value for graph in all_graphs(model) for value in graph.initializers.values())
    count = sum(isinstance(value.const_value, ir.ExternalTensor) for value in values)
    if not count:
        return
    try:
        import resource
    except ImportError:  # Windows counts no descriptors for maps
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard):
        with contextlib.suppress(ValueError, OSError):  # macOS has a bound of its own below the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft + count, hard), hard))


def _sort(model: ir.Model, path: Path) -> None:
    found = [defect for defect in defects(model) if not defect.startswith("two nodes")]
    if found:
        try:
            model.graph.sort()
        except ValueError as error:
            raise ModelError(f"{path}: the graph has a cycle") from error
        found = [defect for defect in defects(model) if not defect.startswith("two nodes")]
    if found:
        raise ModelError(f"{path}: broken graph: {found[0]}")


def write(model: ir.Model, path: str | Path, *, external_bytes: int = EXTERNAL_BYTES) -> None:
    """Write `model` to `path`, atomically; weights beyond `external_bytes` in all go to `<name>.data`."""
    path = Path(path)
    size = weight_bytes(model)
    with written(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        part = Path(folder) / path.name
        if size > external_bytes:
            data = f"{path.name}.data"
            ir.save(clone(model), part, external_data=data, size_threshold_bytes=_SMALL_BYTES)
            os.replace(Path(folder) / data, path.with_name(data))
        else:
            with part.open("wb") as file:
                write_model(inline(model), file)
        os.replace(part, path)


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers of `model`, those of subgraphs too."""
    values = (value for graph in all_graphs(model) for value in graph.initializers.values())
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


def inline(model: ir.Model) -> ir.Model:
    """A clone of `model` whose external weights are written inside it when it is serialised."""
    copy = clone(model)
    for graph in all_graphs(copy):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _internal(value.const_value)
    return copy


def _internal(tensor: ir.ExternalTensor) -> ir.LazyTensor:
    def load() -> ir.TensorProtocol:
        return ir.Tensor(tensor.numpy())

    return ir.LazyTensor(load, tensor.dtype, tensor.shape, name=tensor.name)


def clone(model: ir.Model) -> ir.Model:
    """A copy of `model` with its own graphs, nodes and values; weights are shared."""
    return model.clone()


def digest(model: ir.Model) -> str:
    """SHA-256, in hex, of graph and weights; weights are hashed one at a time, wherever they are stored."""
    bare, found = clone(model), hashlib.sha256()
    for graph in all_graphs(bare):
        for name, value in sorted(graph.initializers.items()):
            if value.const_value is not None:
                _hash_tensor(found, name, value.const_value)
        graph.initializers.clear()
    found.update(ir.serde.serialize_model(bare).SerializeToString(deterministic=True))
    return found.hexdigest()


def _hash_tensor(found: hashlib._Hash, name: str, tensor: ir.TensorProtocol) -> None:
    found.update(f"{name!r} {tensor.dtype} {tensor.shape}\n".encode("utf-8", "backslashreplace"))
    strings = tensor.dtype == ir.DataType.STRING
    # As a list: NumPy leaves out the middle of a long array.
    found.update(repr(tensor.numpy().tolist()).encode() if strings else tensor.tobytes())
