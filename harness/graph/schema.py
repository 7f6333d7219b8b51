"""Nodes held against the operators of their opset: attributes and their types, numbers of inputs and outputs.

Whatever comes later reads attributes without asking twice.  Operators that ONNX does not know are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import onnx

from harness.errors import shorten

DEFAULT_DOMAINS = ("", "ai.onnx")
_TYPES = onnx.AttributeProto.AttributeType
_MESSAGES = {_TYPES.TENSOR: "t", _TYPES.GRAPH: "g", _TYPES.SPARSE_TENSOR: "sparse_tensor"}
"""Attributes that must be there: a number or text that is zero or empty may be left out."""


def misuses(nodes: Iterable[Any], opset: int) -> Iterator[str]:
    """What is wrong with each of `nodes`, one line each, in order."""
    for node in nodes:
        yield from (f"node {shorten(node.name)} ({shorten(node.op_type)}): {why}" for why in _of(node, opset))


def _of(node: Any, opset: int) -> Iterator[str]:
    for attribute in node.attribute:
        field = _MESSAGES.get(attribute.type)
        if attribute.type not in _TYPES.values() or not attribute.type:
            yield f"attribute {shorten(attribute.name)} has the unknown type {attribute.type}"
        elif field and not attribute.HasField(field) and not attribute.ref_attr_name:
            yield f"attribute {shorten(attribute.name)} is empty"
    schema = _schema(node.op_type, opset) if node.domain in DEFAULT_DOMAINS else None
    if schema is not None:
        yield from _against(node, schema)


def _against(node: Any, schema: Any) -> Iterator[str]:
    given = {attribute.name: attribute.type for attribute in node.attribute}
    for name, rule in schema.attributes.items():
        wanted = int(rule.type.value)
        if name in given and given[name] != wanted:
            yield f"attribute {name} is {_TYPES.Name(given[name])}, must be {_TYPES.Name(wanted)}"
        if rule.required and name not in given:
            yield f"attribute {name} is missing"
    if node.op_type == "Constant" and [name in schema.attributes for name in given] != [True]:
        yield "must have one attribute, its value"
    ends = (("inputs", node.input, schema.min_input, schema.max_input),
            ("outputs", node.output, schema.min_output, schema.max_output))  # fmt: skip
    for what, names, least, most in ends:
        if not least <= len(names) <= most:
            yield f"has {len(names)} {what}, must have {least} to {most}"


@lru_cache(maxsize=4096)
def _schema(op_type: Any, opset: int) -> Any:
    if not isinstance(op_type, str) or not onnx.defs.has(op_type):
        return None
    try:
        return onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return None
