"""Where in the graph a set of nodes lies: the regions that it forms."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

from harness.graph.walk import all_nodes
from harness.lowering.operators import PASS_THROUGH, READERS


def regions(model: ir.Model, names: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """`names` in groups that hang together, directly or through nodes that compute nothing.

    Groups and their members are in graph order.
    """
    members = [node for node in all_nodes(model.graph) if node.name in names]
    group = {node: [node] for node in members}
    for node in members:
        for follower in _followers(node):
            if follower in group and group[follower] is not group[node]:
                joined = group[node] + group[follower]
                group |= dict.fromkeys(joined, joined)
    order = {node: k for k, node in enumerate(members)}
    found = {id(nodes): sorted(nodes, key=order.__getitem__) for nodes in group.values()}
    ordered = sorted(found.values(), key=lambda nodes: order[nodes[0]])
    return tuple(tuple(node.name or "" for node in nodes) for nodes in ordered)


def _followers(node: ir.Node) -> Iterator[ir.Node]:
    """Computing nodes that read what `node` makes, nodes that only move values looked through."""
    seen, stack = {node}, [node]
    while stack:
        for value in stack.pop().outputs:
            for user, _ in value.uses():
                if user in seen:
                    continue
                seen.add(user)
                yield user
                if user.op_type in PASS_THROUGH | READERS:
                    stack.append(user)
