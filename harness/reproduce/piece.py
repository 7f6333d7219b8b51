"""Pieces of a model: some nodes of the main graph, with tensors that other nodes make as inputs.

1. A piece reads what its nodes read and do not make themselves; weights stay weights.
2. Its outputs are tensors that its nodes make and that others read, or that are outputs of the model.
3. Inputs get the dtype and shape of the arrays that they will be fed with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from harness.graph.walk import all_nodes, subgraphs


def reads_of(node: ir.Node) -> set[ir.Value]:
    """The values that a node reads, its subgraphs' reads from outside among them."""
    found = {value for value in node.inputs if value is not None and value.name}
    for graph in subgraphs(node):
        own = {value for inner in graph for value in inner.outputs}
        own |= {*graph.inputs, *graph.initializers.values()}
        read = {value for inner in graph for value in reads_of(inner)} | set(graph.outputs)
        found |= {value for value in read if value.name} - own
    return found


def needed_by(output: str, nodes: Sequence[ir.Node]) -> frozenset[int]:
    """Indices of those of `nodes`, in graph order, that the tensor `output` is made by."""
    wanted, found = {output}, set()
    for index in range(len(nodes) - 1, -1, -1):
        if wanted & {value.name for value in nodes[index].outputs}:
            found.add(index)
            wanted |= {value.name or "" for value in reads_of(nodes[index])}
    return frozenset(found)


def ends_of(model: ir.Model, chosen: Collection[ir.Node]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the inputs and outputs of the piece of `chosen` nodes of the main graph."""
    inside = set(chosen)
    made = {value for node in chosen for value in node.outputs if value.name}
    weights = set(model.graph.initializers.values())
    read = {value for node in chosen for value in reads_of(node)} - made - weights
    last = set(model.graph.outputs)
    holder = {inner: node for node in model.graph for graph in subgraphs(node) for inner in all_nodes(graph)}
    outputs = [
        value
        for node in chosen
        for value in node.outputs
        if value.name
        and (value in last or any(holder.get(use.node, use.node) not in inside for use in value.uses()))
    ]
    order = (*model.graph.inputs, *(value for node in model.graph for value in node.outputs))
    inputs = [value.name or "" for value in order if value in read]
    return tuple(inputs), tuple(value.name or "" for value in outputs)


def piece_of(model: ir.Model, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> ir.Model:
    """The piece between the named tensors; weights are shared.  Raises ValueError where they bound none."""
    graph = ir.convenience.extract(model.graph, list(inputs), list(outputs))
    for value in graph.inputs:
        array = inputs[value.name or ""]
        value.type = value.type or ir.TensorType(ir.DataType.from_numpy(array.dtype))
        value.shape = ir.Shape(array.shape)
    return ir.Model(graph, ir_version=model.ir_version)
