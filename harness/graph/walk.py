"""Graphs of `onnx_ir` models: walks over nested graphs, and what makes one invalid."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from harness.errors import shorten


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs in the attributes of `node`."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph and every graph nested in it, outer graphs first."""
    stack = [model.graph]
    while stack:
        graph = stack.pop()
        yield graph
        stack.extend(inner for node in graph for inner in subgraphs(node))


def all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every node of `graph` in order, the nodes of its subgraphs right after the node that holds them."""
    for node in graph:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def values_of(graph: ir.Graph) -> Iterator[ir.Value]:
    """Inputs, initializers and node outputs of `graph` itself, each once; empty outputs are left out."""
    yield from graph.inputs
    given = set(graph.inputs)
    yield from (value for value in graph.initializers.values() if value not in given)
    yield from (value for node in graph for value in node.outputs if value.name)


def all_values(model: ir.Model) -> Iterator[ir.Value]:
    """Every value of every graph of `model`."""
    for graph in all_graphs(model):
        yield from values_of(graph)


def defects(model: ir.Model) -> list[str]:
    """What makes `model` invalid: use before definition, dangling or shadowed names, equal node names."""
    found: list[str] = []
    names = [node.name for node in all_nodes(model.graph)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        found.append(f"two nodes are named {shorten(twice)}")
    _visit(model.graph, set(), {}, found)
    return found


def _visit(graph: ir.Graph, known: set[ir.Value], names: dict[str, int], found: list[str]) -> None:
    own: list[ir.Value] = []
    for value in (*graph.inputs, *graph.initializers.values()):
        _define(value, known, own, names, found)
    for value in graph.initializers.values():
        if value.const_value is None:
            found.append(f"initializer {shorten(value.name)} has no data")
    for node in graph:
        found.extend(_undefined(node, known))
        for inner in subgraphs(node):
            _visit(inner, known, names, found)
        for value in filter(_named, node.outputs):
            _define(value, known, own, names, found)
    lost = [value for value in graph.outputs if value not in known]
    found.extend(f"output {shorten(value.name)} is never made" for value in lost)
    for value in own:
        known.discard(value)
        names.pop(value.name or "", None)


def _named(value: ir.Value) -> bool:
    return bool(value.name)


def _undefined(node: ir.Node, known: set[ir.Value]) -> Iterator[str]:
    for value in node.inputs:
        if value is not None and value not in known:
            yield f"node {shorten(node.name)} uses {shorten(value.name)} before it is made, or it never is"


def _define(
    value: ir.Value, known: set[ir.Value], own: list[ir.Value], names: dict[str, int], found: list[str]
) -> None:
    if value in known:
        return
    if value.name in names:
        found.append(f"two tensors are named {shorten(value.name)}")
    known.add(value)
    own.append(value)
    names[value.name or ""] = 1
