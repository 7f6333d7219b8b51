"""Names in an ONNX protobuf: those that are not UTF-8 are escaped, nodes without one get one."""

from __future__ import annotations

from typing import Any

import onnx

from harness.graph.proto import graphs, nodes


def repair(proto: onnx.ModelProto) -> None:
    """Give every node a name, and make every name text; idempotent.

    A name that is not UTF-8 becomes its backslash-escaped form, as no runtime can be fed by any other.  A
    node without a name is called after its type and its first output.
    """
    for graph, _ in graphs(proto):
        for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            _decode(item, "name")
    for node in nodes(proto):
        _decode(node, "name")
        _decode_all(node.input)
        _decode_all(node.output)
        if not node.name:
            node.name = f"{node.op_type}_{next(filter(None, node.output), '')}"


def _decode(item: Any, field: str) -> None:
    name = getattr(item, field)
    if isinstance(name, bytes):
        setattr(item, field, text(name))


def _decode_all(names: Any) -> None:
    for index, name in enumerate(names):
        if isinstance(name, bytes):
            names[index] = text(name)


def text(name: str | bytes) -> str:
    """`name` as text; bytes that are not UTF-8 are escaped."""
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
