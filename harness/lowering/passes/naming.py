"""Unique node names over all graphs of a model."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from harness.graph.walk import all_nodes


def name_nodes(model: ir.Model) -> None:
    """Make node names unique over all graphs of `model`, in place; the first node keeps a name.

    A node without a name is called after its type and first output.
    """
    seen: set[str] = set()
    for node in all_nodes(model.graph):
        base = node.name or f"{node.op_type}_{node.outputs[0].name if node.outputs else ''}"
        node.name = next(name for name in _numbered(base) if name not in seen)
        seen.add(node.name)


def _numbered(base: str) -> Iterator[str]:
    yield base
    count = 0
    while True:
        count += 1
        yield f"{base}__{count}"
