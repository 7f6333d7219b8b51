"""Integer inputs that pick rows of a table, held against what a spec feeds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from harness.data.arrays import data_error
from harness.data.inputs import Feeds
from harness.errors import shorten
from harness.spec.check import model_inputs
from harness.spec.model_spec import ModelSpec

KEEPING = frozenset({"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose"})
"""Operators behind which every element of an input is found again as it was."""


@dataclass(frozen=True)
class Table:
    """A table of `rows` that `node` picks from; ONNX counts from the end below 0."""

    node: str
    rows: int

    def rule(self, low: int, high: int) -> str:
        """What indices that reach from `low` to `high` must keep to."""
        found = f"feeds {low} to {high}" if low < high else f"feeds {low}"
        allowed = f"must be {-self.rows} to {self.rows - 1}"
        return f"{found}, {allowed}: {shorten(self.node)} picks from {self.rows} rows"


def check_indices(spec: ModelSpec, model: ir.Model, feeds: Feeds) -> None:
    """Raise DataError where `feeds` has an index that no row of a table of `model` belongs to."""
    for name, value in model_inputs(model).items():
        table = min(tables_of(value, model.graph), key=lambda one: one.rows, default=None)
        if table is None or "int" not in spec.inputs[name].dtype:
            continue
        key, said, low, high = feeds.extent(name)
        if low < -table.rows or high >= table.rows:
            raise data_error(spec, key, said, table.rule(low, high))


def tables_of(value: ir.Value, graph: ir.Graph) -> Iterator[Table]:
    """The tables that nodes of `graph` itself pick rows from by `value`, also behind casts and reshapes."""
    waiting, seen = [value], {value}
    while waiting:
        for node, index in waiting.pop().uses():
            if node.graph is not graph or node.domain:
                continue
            if node.op_type == "Gather" and index == 1 and (rows := _rows(node)) is not None:
                yield Table(node.name or "", rows)
            elif node.op_type in KEEPING and index == 0 and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                waiting.append(node.outputs[0])


def _rows(node: ir.Node) -> int | None:
    """Length of the axis that `node` picks along; None where it is not known."""
    table, axis = node.inputs[0], node.attributes.get("axis")
    shape = () if table is None or table.shape is None else tuple(table.shape)
    along = 0 if axis is None else axis.as_int()
    size = shape[along] if -len(shape) <= along < len(shape) else None
    return size if isinstance(size, int) else None
