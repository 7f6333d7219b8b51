"""Names of ONNX nodes among the words that parsers put beside them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from harness.backends.tensorrt.network import BAR
from harness.graph import file as onnx_file
from harness.graph.walk import all_graphs, all_nodes, values_of


def barred(model: ir.Model) -> tuple[str, ...]:
    """Names of nodes that hold a bar, which elsewhere ends a node's name."""
    return tuple(node.name for node in _nodes(model) if node.name and BAR in node.name)


def inner_tensors(model: ir.Model) -> tuple[str, ...]:
    """Tensors inside Loop, If and Scan, which no network takes as an output of its own."""
    inner = (graph for graph in all_graphs(model) if graph is not model.graph)
    return tuple(value.name for graph in inner for value in values_of(graph) if value.name)


def without_words(model: ir.Model) -> ir.Model:
    """A copy of `model` whose nodes have no doc strings; `model` itself where none has.

    The parser of TensorRT 8.6 writes them behind the names of nodes, PyTorch's of many lines too.
    """
    if not any(node.doc_string for node in _nodes(model)):
        return model
    result = onnx_file.clone(model)
    for node in _nodes(result):
        node.doc_string = None
    return result


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from all_nodes(model.graph)
    for function in model.functions.values():
        yield from function
