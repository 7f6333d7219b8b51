"""The shadow model: the FP32 graph, and beside it a lowered copy of each node fed with FP32 tensors.

1. Each named node of the main graph that lowering changes gets one copy, just as the emulation has it: behind
   the Casts and Q/DQ of its inputs, with its rounded weights, its outputs rounded.
2. The copy reads the FP32 tensors, so its error is its own and not that of the nodes before it.
3. For each FLOAT output two scalars become outputs of the model: the sum of |copy - original| and that of
   |original|.  They are the only outputs.  An infinity of the original, such as a mask, is no error where the
   copy has it too, and no magnitude.
4. Nodes in subgraphs get no copy: their tensors cannot be read from outside.  A recurrent node is copied with
   all that it is written out into.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from harness.graph.walk import values_of
from harness.lowering.edit import is_tensor
from harness.lowering.emulation.emulate import emulate
from harness.lowering.model import LoweredModel

PREFIX = "shadow/"
_FLOAT = ir.DataType.FLOAT
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Probe:
    """Names of the two scalars of one output of node `node`."""

    node: str
    error: str
    magnitude: str


def shadow_model(
    base: LoweredModel, lowered: LoweredModel, nodes: Sequence[str]
) -> tuple[ir.Model, list[Probe]]:
    """The shadow model of `lowered` on `base`, the same model with every node kept in FP32."""
    emulated = emulate(lowered)
    model = base.model.clone()
    builder = _Builder(model, emulated)
    probes = [probe for node in nodes for probe in builder.probe(node)]
    model.graph.outputs[:] = builder.outputs
    return model, probes


class _Builder:
    """Adds copies to one FP32 model; chains of inserted nodes are shared between copies."""

    def __init__(self, model: ir.Model, emulated: ir.Model) -> None:
        self._graph = model.graph
        self._nodes = {node.name: node for node in model.graph}
        self._emulated = {node.name: node for node in emulated.graph}
        self._ends = {value.name: value for node in emulated.graph for value in node.outputs if value.name}
        self._values = {value.name: value for node in model.graph for value in node.outputs if value.name}
        self._values |= {value.name: value for value in model.graph.inputs if value.name}
        self._made: dict[ir.Value, ir.Value] = {}
        self.outputs: list[ir.Value] = []
        self._zero = self._add("Constant", [], _FLOAT, {"value_float": ir.AttrFloat32("value_float", 0.0)})

    def probe(self, name: str) -> Iterable[Probe]:
        """Copy one node and compare it with the original."""
        original, twin = self._nodes.get(name), self._emulated.get(name)
        if original is None or twin is None:
            return
        copy = self._copy(twin, [self._input(value) for value in twin.inputs])
        made = dict(zip(twin.outputs, copy.outputs, strict=True))
        for mine in original.outputs:
            theirs = self._ends.get(mine.name or "")
            if theirs is not None and is_tensor(mine, _FLOAT):
                yield self._compare(name, mine, self._as_type(self._behind(theirs, made), _FLOAT))

    def _behind(self, value: ir.Value, made: dict[ir.Value, ir.Value]) -> ir.Value:
        """The copy of `value`, which comes from what is `made` through inserted nodes."""
        if value in made:
            return made[value]
        producer = value.producer()
        assert producer is not None
        inputs = [
            self._behind(source, made) if source and self._comes_from(source, made) else self._input(source)
            for source in producer.inputs
        ]
        copy = self._copy(producer, inputs, f"{PREFIX}own/")
        made.update(zip(producer.outputs, copy.outputs, strict=True))
        return made[value]

    def _comes_from(self, value: ir.Value, made: dict[ir.Value, ir.Value]) -> bool:
        producer = value.producer()
        if value in made or producer is None or producer.name in self._nodes:
            return value in made
        return any(self._comes_from(source, made) for source in producer.inputs if source is not None)

    def _input(self, value: ir.Value | None) -> ir.Value | None:
        """What stands for an input of an emulated node here."""
        if value is None:
            return None
        if value not in self._made:
            self._made[value] = self._stand_in(value)
        return self._made[value]

    def _stand_in(self, value: ir.Value) -> ir.Value:
        producer = value.producer()
        if value.is_initializer():
            return self._weight(value)
        if value.name in self._values:
            return self._as_type(self._values[value.name], value.dtype)
        assert producer is not None
        if producer.name in self._nodes:
            return self._rounded(self._nodes[producer.name].outputs[value.index() or 0], value)
        copy = self._copy(producer, [self._input(source) for source in producer.inputs])
        self._made.update(zip(producer.outputs, copy.outputs, strict=True))
        return self._made[value]

    def _weight(self, value: ir.Value) -> ir.Value:
        weight = ir.Value(
            name=f"{PREFIX}{value.name}", type=value.type, shape=value.shape, const_value=value.const_value
        )
        self._graph.register_initializer(weight)
        return weight

    def _copy(self, node: ir.Node, inputs: Sequence[ir.Value | None], prefix: str = PREFIX) -> ir.Node:
        outputs = [ir.Value(name=v.name and f"{prefix}{v.name}", type=v.type) for v in node.outputs]
        attributes = [self._attribute(attribute) for attribute in node.attributes.values()]
        name = f"{prefix}{node.name}"
        copy = ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, name=name)
        self._graph.append(copy)
        return copy

    def _attribute(self, attribute: ir.Attr) -> ir.Attr:
        """The attribute for a copy; a body reads from outside what stands here for it."""
        if attribute.type != ir.AttributeType.GRAPH:
            return attribute
        body = attribute.as_graph().clone(allow_outer_scope_values=True)
        own = set(values_of(body))
        for node in body:
            for index, value in enumerate(node.inputs):
                if value is not None and value not in own:
                    node.replace_input_with(index, self._input(value))
        return ir.AttrGraph(attribute.name, body)

    def _rounded(self, value: ir.Value, source: ir.Value) -> ir.Value:
        """`value` as the emulation would hand it on, in FLOAT."""
        casts = [use.node for use in source.uses() if use.node.op_type == "Cast"]
        for cast in casts:
            if cast.name not in self._nodes and is_tensor(cast.outputs[0], *_HALVES):
                value = self._as_type(value, cast.outputs[0].dtype)
                break
        return self._as_type(value, _FLOAT)

    def _as_type(self, value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
        if dtype is None or value.dtype == dtype:
            return value
        return self._add("Cast", [value], dtype, {"to": ir.AttrInt64("to", int(dtype))})

    def _compare(self, name: str, original: ir.Value, copy: ir.Value) -> Probe:
        same = self._add("Equal", [copy, original], ir.DataType.BOOL)
        difference = self._zeroed(same, self._add("Sub", [copy, original], _FLOAT))
        infinite = self._add("IsInf", [original], ir.DataType.BOOL)
        error, magnitude = self._norm(difference), self._norm(self._zeroed(infinite, original))
        self.outputs += [error, magnitude]
        return Probe(name, error.name or "", magnitude.name or "")

    def _zeroed(self, where: ir.Value, value: ir.Value) -> ir.Value:
        """`value` with zeros in some places."""
        return self._add("Where", [where, self._zero, value], _FLOAT)

    def _norm(self, value: ir.Value) -> ir.Value:
        """Sum of magnitudes, a scalar."""
        result = self._add("ReduceL1", [value], _FLOAT, {"keepdims": ir.AttrInt64("keepdims", 0)})
        result.shape = ir.Shape([])
        return result

    def _add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        dtype: ir.DataType,
        attributes: dict[str, ir.Attr] | None = None,
    ) -> ir.Value:
        name = f"{PREFIX}{op_type}/{len(self._graph)}"
        output = ir.Value(name=f"{name}/out", type=ir.TensorType(dtype))
        node = ir.Node("", op_type, inputs, list((attributes or {}).values()), outputs=[output], name=name)
        self._graph.append(node)
        return output
