"""Lowering to FP16 or BF16.

1. A node is lowered where its operator's schema allows the type on a FLOAT input; those inputs get it, and
   so do the FLOAT outputs of the same type variable.  DOUBLE, integers and 16-bit tensors stay.
2. A node of the plan stays FP32, with everything in its subgraphs.
3. Pass-through operators (Reshape, Concat, Where...) and Q/DQ follow their producers: FP32 if one of them is;
   weights have no say.
4. A node with a finite weight beyond the type's range stays FP32, with the weight's Q/DQ: 65504 for FP16;
   BF16 ends just below FP32, where masks of -3.4e38 lie.  So do Q/DQ whose scale would be subnormal in FP16.
5. What TensorRT does not take in the type stays FP32: GRU, LSTM and RNN with sequence_lens, and the operators
   of NOT_IN_HALF, subgraphs and all.  So do custom domains, nodes with sequences or with tensors of unknown
   type, and those whose output type an attribute sets.
6. Cast, Shape and Size read whatever comes.  Resize's region and scales stay FP32.
7. Subgraphs are lowered too; their inputs and outputs, as those of the model, keep their types behind Casts.
8. Weights are converted when they are written, rounded to nearest; a weight that only lowered nodes use keeps
   its name.
"""

from __future__ import annotations

import onnx_ir as ir

from harness.graph.walk import all_nodes, all_values, subgraphs
from harness.lowering.edit import Editor, is_tensor, retype
from harness.lowering.model import LoweringSummary
from harness.lowering.operators import NOT_IN_HALF, PASS_THROUGH, QDQ, READERS, RECURRENT, TYPED_BY_ATTRIBUTE
from harness.lowering.passes.base import Pass
from harness.lowering.passes.convert import opset_of
from harness.lowering.schema import Port, disagreements, port
from harness.lowering.weights import magnitude
from harness.precision import PrecisionPlan

_FLOAT = ir.DataType.FLOAT
_SUFFIX = {ir.DataType.FLOAT16: "__f16", ir.DataType.BFLOAT16: "__bf16", _FLOAT: "__f32"}


class HalfPass(Pass):
    """Lowers the nodes that `plan` does not keep to `dtype`, FLOAT16 or BFLOAT16."""

    def __init__(self, plan: PrecisionPlan, dtype: ir.DataType) -> None:
        self.name = f"lowering to {dtype.name}"
        self._plan, self._dtype = plan, dtype

    def apply(self, model: ir.Model) -> LoweringSummary:
        """See the module's rules."""
        run = _Run(model, self._plan, self._dtype)
        run.graph(model.graph, inherited=None)
        run.editor.settle()
        return run.summary()

    def ensures(self, model: ir.Model) -> str | None:
        """No type variable of a node may be bound to two types."""
        version = opset_of(model)
        for node in all_nodes(model.graph):
            for problem in disagreements(node, version):
                return f"node {node.name!r}: {problem}"
        return None


class _Run:
    """One application of the pass; `_before` holds the types that tensors had at its start."""

    def __init__(self, model: ir.Model, plan: PrecisionPlan, dtype: ir.DataType) -> None:
        self.editor = Editor(model)
        self._plan, self._dtype, self._version = plan, dtype, opset_of(model)
        self._label = "FP16" if dtype == ir.DataType.FLOAT16 else "BF16"
        self._before = {v: v.type.dtype for v in all_values(model) if isinstance(v.type, ir.TensorType)}
        self._ends_of_lowered: set[ir.Value] = set()
        self._lowered: list[str] = []
        self._kept: dict[str, str] = {}
        self._overflow: dict[str, None] = {}
        self._underflow: dict[str, None] = {}

    def summary(self) -> LoweringSummary:
        """What was done."""
        return LoweringSummary(
            lowered=tuple(self._lowered),
            kept=self._kept,
            overflow=tuple(self._overflow),
            underflow=tuple(self._underflow),
            casts=self.editor.casts,
        )

    def graph(self, graph: ir.Graph, inherited: str | None) -> None:
        """Lower `graph`; `inherited` is why all of it stays FP32, if it does."""
        for node in list(graph):
            inner = list(subgraphs(node))
            if inner:
                self._control_flow(node, inner, inherited)
            elif self._is_concerned(node):
                self._node(node, inherited or self._reason(node))
        for index, value in enumerate(graph.outputs):
            if self._was_float(value) and not is_tensor(value, _FLOAT):
                self.editor.cast_end(graph, index, _FLOAT, _SUFFIX[_FLOAT])

    def _control_flow(self, node: ir.Node, inner: list[ir.Graph], inherited: str | None) -> None:
        self._set_inputs(node, lower=False)
        for graph in inner:
            self.graph(graph, inherited or self._kept_outright(node))

    def _is_concerned(self, node: ir.Node) -> bool:
        if node.op_type in READERS and not node.domain:
            return node.op_type == "Cast" and self._was_float(node.outputs[0])
        return any(self._was_float(value) for value in (*node.inputs, *node.outputs))

    def _was_float(self, value: ir.Value | None) -> bool:
        if value is None or value not in self._before:
            return is_tensor(value, _FLOAT)
        return self._before[value] == _FLOAT

    def _reason(self, node: ir.Node) -> str | None:
        """Why `node` stays FP32; None if it is lowered."""
        if outright := self._kept_outright(node):
            return outright
        if node.op_type == "Cast" and not node.domain:
            return "Cast to FLOAT"
        return self._unsupported(node) or self._does_not_fit(node) or self._follows(node)

    def _kept_outright(self, node: ir.Node) -> str | None:
        """Why `node` stays FP32 with all that is in it, whatever its tensors are."""
        if self._plan.keeps(node.name or "", node.op_type):
            return "plan"
        if node.op_type in NOT_IN_HALF[self._label] and not node.domain:
            return f"TensorRT takes no {node.op_type} in {self._label}"
        return None

    def _unsupported(self, node: ir.Node) -> str | None:
        if node.domain:
            return f"custom domain {node.domain}"
        if any(v is not None and v.name and not isinstance(v.type, ir.TensorType) for v in _ends(node)):
            return "a sequence or a tensor of unknown type"
        if node.op_type in RECURRENT and len(node.inputs) > 4 and node.inputs[4] is not None:
            return f"{node.op_type} with sequence_lens"
        if node.op_type in TYPED_BY_ATTRIBUTE:
            return f"schema: the output type of {node.op_type} follows an attribute"
        if not any(self._takes(node, index) for index in range(len(node.inputs))):
            return f"schema: {node.op_type} takes no {self._label}"
        return None

    def _takes(self, node: ir.Node, index: int) -> bool:
        """Whether input `index`, a FLOAT, may be the 16-bit type."""
        if not self._was_float(node.inputs[index]) or (node.op_type == "Resize" and index):
            return False
        found = port(node, self._version, "inputs", index)
        return found is not None and found.takes(self._dtype)

    def _does_not_fit(self, node: ir.Node) -> str | None:
        for value, tensor in self._weights(node):
            if magnitude(tensor).overflows(self._dtype):
                self._overflow[value.name or ""] = None
                return f"weight {value.name} overflows {self._label}"
            if node.op_type in QDQ and value is node.inputs[1] and self._underflows(tensor):
                return f"scale {value.name} underflows {self._label}"
        return None

    def _underflows(self, tensor: ir.TensorProtocol) -> bool:
        return self._dtype == ir.DataType.FLOAT16 and magnitude(tensor).underflows

    def _weights(self, node: ir.Node) -> list[tuple[ir.Value, ir.TensorProtocol]]:
        """The FLOAT weights among the inputs that would be lowered, or behind their Q/DQ."""
        restored = node.op_type == "DequantizeLinear"
        ends = (_source(v) for i, v in enumerate(node.inputs) if self._takes(node, i) or (restored and not i))
        return [(v, v.const_value) for v in ends if v is not None and v.const_value is not None]

    def _follows(self, node: ir.Node) -> str | None:
        if node.op_type not in PASS_THROUGH | QDQ:
            return None
        for value in node.inputs:
            if value is None or value.is_initializer() or not self._was_float(value):
                continue
            if value.dtype == _FLOAT and value not in self._ends_of_lowered:
                return "follows an FP32 producer"
        return None

    def _node(self, node: ir.Node, reason: str | None) -> None:
        if reason is not None:
            self._kept[node.name or ""] = reason
            if node.op_type not in READERS or node.domain:
                self._set_inputs(node, lower=False)
            return
        self._lowered.append(node.name or "")
        for value, tensor in self._weights(node):
            if self._underflows(tensor):
                self._underflow[value.name or ""] = None
        lowered = self._set_inputs(node, lower=True)
        self._set_outputs(node, lowered)

    def _set_inputs(self, node: ir.Node, *, lower: bool) -> set[str]:
        """Give the FLOAT inputs of `node` the type they need; the type variables that are lowered."""
        variables: set[str] = set()
        for index, value in enumerate(node.inputs):
            if value is None or not self._was_float(value):
                continue
            dtype = self._dtype if lower and self._takes(node, index) else _FLOAT
            if dtype != _FLOAT:
                variables.add(_variable(port(node, self._version, "inputs", index)))
            node.replace_input_with(index, self.editor.as_type(value, dtype, node, _SUFFIX[dtype]))
        return variables

    def _set_outputs(self, node: ir.Node, lowered: set[str]) -> None:
        for index, value in enumerate(node.outputs):
            if not value.name or not self._was_float(value):
                continue
            if self._output_variable(node, index) in lowered:
                retype(value, self._dtype)
                if value.is_graph_output():
                    end = self.editor.cast_output(value, _FLOAT, _SUFFIX[self._dtype])
                    self._ends_of_lowered.add(end)

    def _output_variable(self, node: ir.Node, index: int) -> str:
        if node.op_type == "DequantizeLinear" and "output_dtype" not in node.attributes:
            return _variable(port(node, self._version, "inputs", 1))
        return _variable(port(node, self._version, "outputs", index))


def _source(value: ir.Value | None) -> ir.Value | None:
    """The FLOAT weight that `value` is, itself or behind Q/DQ; None for anything else."""
    while value is not None and (maker := value.producer()) is not None and maker.op_type in QDQ:
        value = maker.inputs[0]
    return value if value is not None and value.is_initializer() and is_tensor(value, _FLOAT) else None


def _variable(found: Port | None) -> str:
    return "" if found is None else found.variable


def _ends(node: ir.Node) -> tuple[ir.Value | None, ...]:
    return (*node.inputs, *node.outputs)
