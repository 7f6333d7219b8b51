"""What ONNX's operator schemas say of the ports of a node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import onnx
import onnx_ir as ir

Side = Literal["inputs", "outputs"]


@dataclass(frozen=True)
class Port:
    """One formal input or output: its type variable (or fixed type) and the types allowed for it.

    `mixed`: each of its tensors binds the variable anew, as the loop-carried tensors of a Loop do.
    """

    variable: str
    allowed: frozenset[str]
    mixed: bool = False

    def takes(self, dtype: ir.DataType) -> bool:
        """Whether a tensor of `dtype` is allowed here."""
        return f"tensor({_NAMES[dtype]})" in self.allowed


_NAMES = {
    ir.DataType.FLOAT: "float",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.DOUBLE: "double",
}


@lru_cache(maxsize=4096)
def ports(op_type: str, version: int, side: Side) -> tuple[Port, ...]:
    """The formal inputs or outputs of a default-domain operator; empty where there is no such operator."""
    try:
        schema = onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return ()
    types = {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints}
    formal = schema.inputs if side == "inputs" else schema.outputs
    fixed = ((p, frozenset({p.type_str})) for p in formal)
    return tuple(Port(p.type_str, types.get(p.type_str, own), not p.is_homogeneous) for p, own in fixed)


def port(node: ir.Node, version: int, side: Side, index: int) -> Port | None:
    """The formal port behind input or output `index` of `node`; None where no schema knows it."""
    found = () if node.domain else ports(node.op_type, version, side)
    return found[min(index, len(found) - 1)] if found else None


def disagreements(node: ir.Node, version: int) -> Iterator[str]:
    """Type variables of `node` that are bound to two types."""
    bound: dict[str, ir.DataType] = {}
    for side, values in (("inputs", node.inputs), ("outputs", node.outputs)):
        for index, value in enumerate(values):
            found = port(node, version, "inputs" if side == "inputs" else "outputs", index)
            if found is None or found.mixed or value is None or not isinstance(value.type, ir.TensorType):
                continue
            name, dtype = found.variable, value.type.dtype
            if "(" not in name and bound.setdefault(name, dtype) != dtype:
                yield f"{name} is {bound[name]} and {dtype}"
