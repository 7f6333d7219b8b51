"""Normalising: the form of a model that every pass starts from; it is the FP32 reference.

1. Local functions are inlined.
2. Initializers that are also graph inputs are no inputs any more: constants, as TensorRT takes them.
3. `Constant` nodes become initializers, but for those that are graph outputs themselves.
4. The opset is at least 19 (per-channel Q/DQ, FP16 scales); see `convert`.
5. Every node has a name of its own, over all subgraphs; the first node with a name keeps it.
6. A symbolic dimension that names two axes of one tensor, or that names nothing, gets a name for each axis,
   because TensorRT takes equal names for equal sizes.
7. An output that nodes read as well has no stated sizes: exporters write down what they saw once, and a wrong
   one would be believed of all that follows.
8. The IR version is 8 to 10.
9. Every tensor has a type, where ONNX knows the operators.

Names of tensors never change.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from harness.errors import LoweringError, ModelError
from harness.graph.file import clone
from harness.graph.walk import all_graphs, defects
from harness.lowering.passes.convert import at_opset
from harness.lowering.passes.infer import infer
from harness.lowering.passes.naming import name_nodes

OPSET = 19
IR_VERSIONS = (8, 10)
_UNKNOWN_DIMS = {"?", "unk", "None", "none", "-1", ""}


def normalise(model: ir.Model) -> ir.Model:
    """A new, normalised model with the same weights.

    Raises ModelError where a function cannot be inlined or the opset cannot be converted.
    """
    result = _inline(clone(model))
    for graph in all_graphs(result):
        _drop_initializer_inputs(graph)
        _lift_constants(graph)
    ranks = _forget_sizes(result.graph)
    # Before IR 4 the converter knows no initializer that is not an input as well.
    result.ir_version = min(max(result.ir_version or 0, IR_VERSIONS[0]), IR_VERSIONS[1])
    name_nodes(result)
    result = at_opset(result, OPSET)
    for graph in all_graphs(result):
        _lift_constants(graph)
    for value in (*result.graph.inputs, *result.graph.outputs):
        _name_dims(value)
    infer(result, check=True)
    _rank(result.graph, ranks)
    if found := defects(result):
        raise LoweringError(f"normalise: {found[0]}")
    return result


def _inline(model: ir.Model) -> ir.Model:
    if not model.functions:
        return model
    try:
        return InlinePass()(model).model
    except (ir.passes.InvariantError, ir.passes.PassError, ValueError) as error:
        raise ModelError(f"local functions cannot be inlined: {error.__cause__ or error}") from error


def _drop_initializer_inputs(graph: ir.Graph) -> None:
    kept = [value for value in graph.inputs if value.name not in graph.initializers]
    if len(kept) != len(graph.inputs):
        graph.inputs.clear()
        graph.inputs.extend(kept)


def _lift_constants(graph: ir.Graph) -> None:
    for node in list(graph):
        if node.op_type == "Constant" and not node.domain and not node.outputs[0].is_graph_output():
            tensor = constant(node)
            if tensor is not None:
                _replace(graph, node, tensor)


def _replace(graph: ir.Graph, node: ir.Node, tensor: ir.TensorProtocol) -> None:
    old = node.outputs[0]
    shape = ir.Shape(tensor.shape.numpy())
    new = ir.Value(name=old.name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    graph.register_initializer(new)


def constant(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor that the `Constant` node `node` makes; None for strings."""
    attribute = next(iter(node.attributes.values()))
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return None if tensor.dtype == ir.DataType.STRING else tensor
    if attribute.name.startswith("value_float"):
        return ir.Tensor(np.asarray(attribute.value, np.float32))
    if attribute.name.startswith("value_int"):
        return ir.Tensor(np.asarray(attribute.value, np.int64))
    return None


def _forget_sizes(graph: ir.Graph) -> dict[str, int]:
    """Take the shapes off outputs that nodes read as well; the number of axes by name."""
    read = [value for value in graph.outputs if value.uses() and value.shape is not None]
    ranks = {value.name or "": len(value.shape) for value in read if value.shape is not None}
    for value in read:
        value.shape = None
    return ranks


def _rank(graph: ir.Graph, ranks: Mapping[str, int]) -> None:
    """Give outputs whose sizes were not inferred a shape of unknown ones: ONNX asks for one."""
    for value in graph.outputs:
        rank = ranks.get(value.name or "")
        if rank is not None:
            value.shape = value.shape or ir.Shape([None] * rank)
            _name_dims(value)


def _name_dims(value: ir.Value) -> None:
    if value.shape is None:
        return
    dims = list(value.shape.dims)
    names = [dim.value for dim in dims if isinstance(dim, ir.SymbolicDim)]
    value.shape = ir.Shape([_dim(value, axis, dim, names) for axis, dim in enumerate(dims)])


def _dim(
    value: ir.Value, axis: int, dim: int | ir.SymbolicDim, names: list[str | None]
) -> int | ir.SymbolicDim:
    if isinstance(dim, int):
        unknown = dim < 0 or (dim == 0 and axis == 0)
    else:
        unknown = dim.value is None or dim.value in _UNKNOWN_DIMS or names.count(dim.value) > 1
    return ir.SymbolicDim(f"{value.name}_d{axis}") if unknown else dim
