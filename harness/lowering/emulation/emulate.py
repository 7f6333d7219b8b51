"""Emulation of 16-bit computing on a runtime that computes in FP32.

ONNX Runtime's CPU provider computes FP16 graphs in FP32 and removes the conversions that it adds, so that
nothing is rounded between nodes.  Here every 16-bit node that computes becomes Cast, FP32 node, Cast; those
Casts belong to the model and stay.

1. A node that has 16-bit tensors gets its inputs in FP32 and is rounded to 16 bits once, at its outputs.  It
   accumulates in FP32.
2. So are nodes that only move values: where the runtime lacks a 16-bit kernel for one, it adds conversions of
   its own and removes the model's rounding with them.  What they move is rounded already, and the next node
   reads it in FP32 as it is.  Only Casts and control flow are left in 16 bits; the self-test of the backend
   holds the runtime to those.
3. GRU, LSTM and RNN are a bracket: real kernels keep their state in 16 bits, rounded at every step, or in
   FP32.  `stepped` writes the first out, and is what is judged; `kept` rounds once a node.
4. 16-bit weights are held in FP32, rounded; attributes that give an output its type or values turn FP32 too.
5. Names and types of tensors stay; what a node makes before rounding is called `<tensor>__r32`.
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from harness.graph.walk import all_nodes, subgraphs
from harness.lowering.edit import Editor, is_tensor, retype, retype_attributes
from harness.lowering.emulation.stepped import stepped
from harness.lowering.model import LoweredModel, LoweringSummary
from harness.lowering.operators import MOVES, READERS
from harness.lowering.passes.base import Pass, run

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FLOAT = ir.DataType.FLOAT


Recurrence = Literal["stepped", "kept"]
"""What kernels do with the state of GRU, LSTM and RNN: rounded at every step, or kept in FP32 to the end."""


def emulate(lowered: LoweredModel, recurrence: Recurrence = "stepped") -> ir.Model:
    """The lowered model with every 16-bit rounding explicit, for a runtime that computes in FP32.

    Names and types of tensors are those of `lowered`; Q/DQ stays as it is.
    """
    if lowered.plan.precision.half is None:
        return lowered.model
    model = stepped(lowered.model) if recurrence == "stepped" else lowered.model
    return run(EmulationPass(), model)[0]


class EmulationPass(Pass):
    """Writes the rounding of every 16-bit node into the graph."""

    name = "emulation"

    def apply(self, model: ir.Model) -> LoweringSummary:
        """See the module's rules."""
        editor = Editor(model)
        for node in list(all_nodes(model.graph)):
            if _is_written_out(node):
                _explicit(node, editor)
        editor.settle()
        return LoweringSummary(casts=editor.casts)


def _is_written_out(node: ir.Node) -> bool:
    if node.domain or node.op_type in READERS or any(True for _ in subgraphs(node)):
        return False
    return any(is_tensor(value, *_HALVES) for value in (*node.inputs, *node.outputs))


def _explicit(node: ir.Node, editor: Editor) -> None:
    for half in _HALVES:
        retype_attributes(node, half, _FLOAT)
    for index, value in enumerate(node.inputs):
        if value is not None and is_tensor(value, *_HALVES):
            node.replace_input_with(index, editor.as_type(value, _FLOAT, node, "__e32"))
    for value in node.outputs:
        if is_tensor(value, *_HALVES) and value.dtype is not None:
            _round(value, value.dtype, editor, moved=node.op_type in MOVES)


def _round(value: ir.Value, half: ir.DataType, editor: Editor, *, moved: bool) -> None:
    rounded = editor.cast_output(value, half, "__r32")
    retype(value, _FLOAT)
    if moved:
        editor.equal(rounded, value)
