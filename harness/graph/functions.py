"""How large a model's local functions make it: counted before anything inlines them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx

MAX_NODES = 1_000_000
"""Nodes that a model may have once its local functions are inlined."""

Key = tuple[str, str, str]


def misuse(proto: onnx.ModelProto) -> str | None:
    """What is wrong with the local functions of `proto`, a circle or too many nodes; None if nothing."""
    bodies = {(f.domain, f.name, f.overload): _calls(f.node) for f in proto.functions}
    sizes: dict[Key, int] = {}
    for first in bodies:
        if not _measure(first, bodies, sizes):
            return f"local function {first[1]!r} calls itself, or one that does"
    if _size(_calls(proto.graph.node), sizes) > MAX_NODES:
        return f"more than {MAX_NODES} nodes once local functions are inlined"
    return None


def _measure(first: Key, bodies: dict[Key, Counter[Key]], sizes: dict[Key, int]) -> bool:
    """Fill in the size of `first` and of what it calls; False where the calls lead round in a circle."""
    path = {first: iter(bodies[first])}
    while path:
        key = next(reversed(path))
        called = next((c for c in path[key] if c in bodies and c not in sizes), None)
        if called is None:
            sizes[key] = _size(bodies[key], sizes)
            del path[key]
        elif called in path:
            return False
        else:
            path[called] = iter(bodies[called])
    return True


def _size(calls: Counter[Key], sizes: dict[Key, int]) -> int:
    """Nodes in all, counted up to one more than are allowed."""
    return min(MAX_NODES + 1, sum(count * sizes.get(key, 1) for key, count in calls.items()))


def _calls(nodes: Iterable[onnx.NodeProto]) -> Counter[Key]:
    """How often each operator, which may be a function, stands in `nodes` and in the graphs inside."""
    return Counter((node.domain, node.op_type, node.overload) for node in _all(nodes))


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                stack.extend(graph.node)
