"""How many bytes the tensors of a model take on given samples: from annotated shapes, else measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx_ir as ir

from harness.backends.runner import Opener, Tensors

SIZE_SUFFIX = "/trt_harness/size"
FLOAT_BYTES = 4


def measure(
    model: ir.Model, feeds: Iterable[Tensors], tensors: Sequence[str], opener: Opener
) -> dict[str, int]:
    """Bytes of each tensor in float32, the most over all sets of input shapes in `feeds`.

    A tensor whose shape the model does not give, as numbers or names of input dimensions, is measured by
    running the model once for every set of input shapes.
    """
    values = values_of(model.graph)
    most = dict.fromkeys(tensors, 0)
    unknown = dict.fromkeys(tensor for tensor in tensors if values[tensor].shape is None)
    for feed in _distinct(feeds):
        bound = _bind(model.graph, feed)
        for tensor in (tensor for tensor in tensors if tensor not in unknown):
            count = _count(values[tensor], bound)
            if count is None:
                unknown[tensor] = None
            else:
                most[tensor] = max(most[tensor], FLOAT_BYTES * count)
    return most | _run(model, feeds, list(unknown), opener)


def _distinct(feeds: Iterable[Tensors]) -> Iterator[Tensors]:
    """The first sample of every set of input shapes."""
    seen = set()
    for feed in feeds:
        shapes = tuple(sorted((name, array.shape) for name, array in feed.items()))
        if shapes not in seen:
            seen.add(shapes)
            yield feed


def _bind(graph: ir.Graph, feed: Tensors) -> dict[str, int]:
    """What the sample says of the named dimensions."""
    bound: dict[str, int] = {}
    for value in graph.inputs:
        if value.shape is None or value.name is None or value.name not in feed:
            continue
        for dim, size in zip(value.shape.dims, feed[value.name].shape, strict=True):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                bound[dim.value] = size
    return bound


def _count(value: ir.Value, bound: Mapping[str, int]) -> int | None:
    """Elements of the tensor; None where a dimension is unknown."""
    count = 1
    for dim in value.shape.dims if value.shape is not None else ():
        size = dim if isinstance(dim, int) else bound.get(dim.value or "")
        if size is None:
            return None
        count *= size
    return count


def _run(model: ir.Model, feeds: Iterable[Tensors], tensors: Sequence[str], opener: Opener) -> dict[str, int]:
    if not tensors:
        return {}
    sized, names = _with_sizes(model, tensors)
    most = dict.fromkeys(tensors, 0)
    with opener(sized, names) as runner:
        for feed in _distinct(feeds):
            counts = runner.run(feed)
            for tensor, name in zip(tensors, names, strict=True):
                most[tensor] = max(most[tensor], FLOAT_BYTES * int(counts[name]))
    return most


def _with_sizes(model: ir.Model, tensors: Sequence[str]) -> tuple[ir.Model, list[str]]:
    """The model with the element count of each tensor as its only outputs, and their names."""
    model = model.clone()
    graph = model.graph
    values = values_of(graph)
    nodes = [ir.node("Size", [values[name]], name=name + SIZE_SUFFIX) for name in tensors]
    for node in nodes:
        node.outputs[0].name = node.name
        node.outputs[0].type = ir.TensorType(ir.DataType.INT64)
        node.outputs[0].shape = ir.Shape([])
    graph.extend(nodes)
    graph.outputs[:] = [node.outputs[0] for node in nodes]
    return model, [str(node.name) for node in nodes]


def values_of(graph: ir.Graph) -> dict[str, ir.Value]:
    """Inputs and node outputs of the main graph by name."""
    found = {str(value.name): value for value in graph.inputs}
    found.update({value.name: value for node in graph for value in node.outputs if value.name})
    return found
