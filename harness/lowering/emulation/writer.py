"""New nodes in a graph: at its end, or before one of its nodes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from harness.lowering.edit import Editor

_FLOAT = ir.DataType.FLOAT


class Writer:
    """Adds nodes to `graph`, before the node `before` if there is one; names begin with `base`."""

    def __init__(self, editor: Editor, graph: ir.Graph, base: str, before: ir.Node | None = None) -> None:
        self.editor, self.graph, self._base, self._before = editor, graph, base, before

    def __call__(
        self, op_type: str, *inputs: ir.Value | None, dtype: ir.DataType = _FLOAT, **attributes: Any
    ) -> ir.Value:
        """The one output of a new node, of `dtype`."""
        return self.several(op_type, *inputs, count=1, dtype=dtype, **attributes)[0]

    def several(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        count: int,
        dtype: ir.DataType = _FLOAT,
        **attributes: Any,
    ) -> list[ir.Value]:
        """The `count` outputs of a new node, all of `dtype`."""
        outputs = [self.value(op_type, dtype) for _ in range(count)]
        node = ir.node(op_type, inputs, attributes, outputs=outputs, name=self.fresh(f"{op_type}/node"))
        if self._before is None:
            self.graph.append(node)
        else:
            self.graph.insert_before(self._before, node)
        return outputs

    def value(self, what: str, dtype: ir.DataType = _FLOAT) -> ir.Value:
        """A new tensor that no node makes yet."""
        return ir.Value(name=self.fresh(what), type=ir.TensorType(dtype))

    def fresh(self, what: str) -> str:
        """A name that nothing else has."""
        return self.editor.fresh(f"{self._base}/{what}")

    def number(self, value: float) -> ir.Value:
        """A FLOAT scalar."""
        return self("Constant", value_float=float(value))

    def integers(self, *values: int) -> ir.Value:
        """An INT64 vector."""
        return self("Constant", dtype=ir.DataType.INT64, value_ints=list(values))

    def integer(self, value: int) -> ir.Value:
        """An INT64 scalar."""
        return self("Constant", dtype=ir.DataType.INT64, value_int=value)
