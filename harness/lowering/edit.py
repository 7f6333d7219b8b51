"""Edits that passes share: new names, casts, and second copies of weights in another type."""

from __future__ import annotations

import onnx_ir as ir

from harness.graph.walk import all_nodes, all_values
from harness.lowering.weights import converted

TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
"""Attributes that name an element type."""


def is_tensor(value: ir.Value | None, *dtypes: ir.DataType) -> bool:
    """Whether `value` is a tensor of one of `dtypes`."""
    return value is not None and isinstance(value.type, ir.TensorType) and value.type.dtype in dtypes


def retype(value: ir.Value, dtype: ir.DataType) -> None:
    """Make `value` a tensor of `dtype`; the type object itself may be shared with other models."""
    value.type = ir.TensorType(dtype)


def retype_attributes(node: ir.Node, source: ir.DataType, target: ir.DataType) -> None:
    """Make the types and tensors in the attributes of `node` that are `source` into `target`."""
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == source:
            node.attributes[name] = ir.AttrTensor(name, converted(attribute.as_tensor(), target, name))
        elif name in TYPE_ATTRIBUTES and attribute.value == source:
            node.attributes[name] = ir.AttrInt64(name, int(target))


class Editor:
    """Adds casts and converted weights to one model; each conversion of a tensor is made once per graph.

    A converted weight takes its original's name when nothing uses the original any more (`settle`).
    """

    def __init__(self, model: ir.Model) -> None:
        self.casts = 0
        self._taken = {value.name for value in all_values(model)}
        self._taken |= {node.name for node in all_nodes(model.graph)}
        self._made: dict[tuple[ir.Graph, ir.Value, ir.DataType], ir.Value] = {}
        self._twins: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def fresh(self, base: str) -> str:
        """`base`, or the first of `base__1`, `base__2`... that nothing is named."""
        name, count = base, 0
        while name in self._taken:
            count += 1
            name = f"{base}__{count}"
        self._taken.add(name)
        return name

    def as_type(self, value: ir.Value, dtype: ir.DataType, user: ir.Node, suffix: str) -> ir.Value:
        """`value` in `dtype`, ready before the node `user`; named `<value><suffix>`."""
        if value.dtype == dtype:
            return value
        if value.is_initializer() and value.const_value is not None:
            return self._twin(value, value.const_value, dtype, suffix)
        graph = user.graph
        assert graph is not None
        key = (graph, value, dtype)
        if key not in self._made:
            result = self._copy(value, self.fresh(f"{value.name}{suffix}"), dtype)
            graph.insert_before(user, self._cast(value, result))
            self._made[key] = result
        return self._made[key]

    def cast_output(self, value: ir.Value, dtype: ir.DataType, suffix: str) -> ir.Value:
        """Put a Cast to `dtype` behind the node output `value`; its output takes name, shape and users.

        `value` itself is renamed `<value><suffix>`.  Users that want its type find it through `as_type`.
        """
        node = value.producer()
        assert node is not None
        assert node.graph is not None
        result = self._copy(value, value.name or "", dtype)
        value.replace_all_uses_with(result, replace_graph_outputs=True)
        value.name = self.fresh(f"{value.name}{suffix}")
        node.graph.insert_after(node, self._cast(value, result))
        if value.dtype is not None:
            self._made[(node.graph, result, value.dtype)] = value
        return result

    def equal(self, value: ir.Value, other: ir.Value) -> None:
        """Say that `other`, in the same graph, holds the numbers of `value` in its own type."""
        assert other.graph is not None
        assert other.dtype is not None
        self._made[other.graph, value, other.dtype] = other

    def cast_end(self, graph: ir.Graph, index: int, dtype: ir.DataType, suffix: str) -> None:
        """Cast output `index` of `graph`, which comes from an outer graph, to `dtype`."""
        value = graph.outputs[index]
        result = self._copy(value, self.fresh(f"{value.name}{suffix}"), dtype)
        graph.append(self._cast(value, result))
        graph.outputs[index] = result

    def settle(self) -> None:
        """Give each converted weight its original's name where the original has no use any more."""
        for (value, _), twin in self._twins.items():
            graph = value.graph
            if graph is None or value.uses() or value.is_graph_output():
                continue
            name = value.name or ""
            graph.initializers.pop(name)
            twin.name = name

    def _twin(self, value: ir.Value, tensor: ir.TensorProtocol, dtype: ir.DataType, suffix: str) -> ir.Value:
        if (value, dtype) not in self._twins:
            twin = self._copy(value, self.fresh(f"{value.name}{suffix}"), dtype)
            twin.const_value = converted(tensor, dtype, twin.name or "")
            assert value.graph is not None
            value.graph.register_initializer(twin)
            self._twins[value, dtype] = twin
        return self._twins[value, dtype]

    def _copy(self, value: ir.Value, name: str, dtype: ir.DataType) -> ir.Value:
        shape = None if value.shape is None else value.shape.copy()
        return ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)

    def _cast(self, value: ir.Value, result: ir.Value) -> ir.Node:
        self.casts += 1
        attributes = [ir.AttrInt64("to", int(result.dtype or ir.DataType.FLOAT))]
        name = self.fresh(f"{result.name}/cast")
        return ir.Node("", "Cast", [value], attributes, outputs=[result], name=name)
