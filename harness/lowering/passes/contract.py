"""What every pass must leave as it was: node names, tensor names, inputs and outputs, a valid graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from harness.errors import shorten
from harness.graph.walk import all_nodes, all_values, defects

Face = tuple[str | None, str, str]


@dataclass(frozen=True)
class Contract:
    """Names and faces of a model; `face` is name, type and shape of every input and output, in order."""

    nodes: frozenset[str]
    tensors: frozenset[str]
    face: tuple[Face, ...]

    @classmethod
    def of(cls, model: ir.Model) -> Contract:
        """The contract that `model` sets."""
        nodes = frozenset(node.name or "" for node in all_nodes(model.graph))
        tensors = frozenset(value.name or "" for value in all_values(model))
        ends = (*model.graph.inputs, *model.graph.outputs)
        return cls(nodes, tensors, tuple((v.name, str(v.type), str(v.shape)) for v in ends))

    def broken(self, model: ir.Model) -> Iterator[str]:
        """How `model` breaks the contract, one sentence each."""
        after = Contract.of(model)
        if lost := self.nodes - after.nodes:
            yield f"lost {len(lost)} nodes, such as {shorten(min(lost))}"
        if lost := self.tensors - after.tensors:
            yield f"lost {len(lost)} tensors, such as {shorten(min(lost))}"
        if self.face != after.face:
            old, new = next((a, b) for a, b in zip(self.face, after.face, strict=False) if a != b)
            yield f"changed input or output {shorten(old)} to {shorten(new)}"
        yield from defects(model)
