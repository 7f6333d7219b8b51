"""Names of nested graphs: an input of one that hides a name from outside is renamed.

ONNX allows it.  Runtimes and passes that keep tensors by name would take one for the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from harness.graph.walk import all_nodes, subgraphs, values_of


def unhide(graph: ir.Graph) -> None:
    """Rename, in place, inputs of graphs nested in `graph` that have the name of a tensor outside."""
    nested = (inner for node in all_nodes(graph) for inner in subgraphs(node))
    taken = {value.name for inside in (graph, *nested) for value in values_of(inside)}
    _rename_inside(graph, set(), taken)


def _rename_inside(graph: ir.Graph, outside: set[str | None], taken: set[str | None]) -> None:
    for value in graph.inputs:
        if value.name in outside and value.name not in graph.initializers:
            value.name = next(name for name in _numbered(value.name or "") if name not in taken)
            taken.add(value.name)
    own = {value.name for value in values_of(graph)} - outside
    outside |= own
    for node in graph:
        for inner in subgraphs(node):
            _rename_inside(inner, outside, taken)
    outside -= own


def _numbered(base: str) -> Iterator[str]:
    count = 0
    while True:
        count += 1
        yield f"{base}__{count}"
