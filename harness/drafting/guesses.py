"""First guesses for a spec, from the graph alone: what the axes of inputs are, what values they hold."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.spec.axes import parse
from harness.spec.check import dtype_name, model_inputs

if TYPE_CHECKING:
    import onnx_ir as ir

AxisKind = Literal["static", "batch", "side", "length"]
Values = Mapping[str, float | str]
"""A generator's table as it stands in a spec."""

STATES = re.compile(r"past|cache|prev|mem", re.IGNORECASE)
"""What inputs are called that earlier steps fill, and that may be empty at first."""
_NAMELESS = {"", "?", "unk", "None", "-1"}
_FOLLOWED = {"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Where", "Clip"}
_FLAGS = ("mask", "flag", "is_", "use_", "has_")
_RATES = ("sr", "sample_rate", "sampling_rate")
_FREE_INTEGERS = 100
_CHANNELS = (1, 3, 4)
"""Sizes of the last axis that say that an input of four axes or more is an image, channels last."""


@dataclass(frozen=True)
class Axis:
    """One axis: `size` if static, else 0 and a `symbol` that axes of equal size share.

    `follows`: the size is this expression of the symbols of other axes, which the model's file gives or a
    trial found.
    """

    kind: AxisKind
    size: int = 0
    symbol: str = ""
    follows: str = ""


@dataclass(frozen=True)
class DraftInput:
    """One input as the graph declares it, with the values guessed for it."""

    name: str
    dtype: str
    axes: tuple[Axis, ...]
    values: Values


def draft_inputs(model: ir.Model) -> tuple[DraftInput, ...]:
    """A draft of every input that must be fed.  Raises ModelError for one that is no tensor of numbers."""
    return tuple(_draft(name, value) for name, value in model_inputs(model).items())


def _draft(name: str, value: ir.Value) -> DraftInput:
    dtype = dtype_name(value)
    return DraftInput(name, dtype, tuple(_axes(name, value)), _values(name, dtype, value))


def _axes(name: str, value: ir.Value) -> Iterator[Axis]:
    dims = list(value.shape) if value.shape is not None else []
    names = Counter(str(dim.value) for dim in dims if not isinstance(dim, int))
    for index, dim in enumerate(dims):
        if isinstance(dim, int) and dim >= 0:
            yield Axis("static", dim)
            continue
        label = "" if isinstance(dim, int) else str(dim.value or "")
        if _is_expression(label):
            yield Axis("length", follows=label)
            continue
        shared = label not in _NAMELESS and names[label] == 1
        last = len(dims) - 1
        image = index and index < last and len(dims) >= 4 and dims[last] in _CHANNELS
        kind: AxisKind = "side" if image else _kind(name, label, index, len(dims))
        yield Axis(kind, symbol=identifier(label if shared else f"{name}_{index}"))


def _is_expression(label: str) -> bool:
    """Whether a symbol of the file says how the size follows from others: `past + 1`."""
    try:
        found = parse(label)
    except ValueError:
        return False
    return found.name is None and bool(found.names)


def identifier(text: str) -> str:
    """`text` as the name that an axis may have in a spec."""
    word = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"axis_{word}" if not word or word[0].isdigit() or keyword.iskeyword(word) else word


def _kind(name: str, label: str, index: int, rank: int) -> AxisKind:
    if re.search(r"batch|^[nNbB]$", label) or (index == 0 and not re.search(r"seq|len|time|frame", label)):
        return "batch"
    if STATES.search(name) or re.search(r"past|seq|len|time|frame", label):
        return "length"
    return "side" if rank >= 4 and index >= 2 else "length"


def _values(name: str, dtype: str, value: ir.Value) -> Values:
    lowered = name.lower()
    if "mask" in lowered:
        return {"generator": "mask"}
    if re.search(r"position_?ids|^positions?$", lowered) and "int" in dtype:
        return {"generator": "positions"}
    if "float" in dtype:
        return {"generator": "normal"}
    low, high = _bounds(name, dtype, value)
    return {"generator": "integers", "low": low, "high": high}


def _bounds(name: str, dtype: str, value: ir.Value) -> tuple[int, int]:
    """Bounds of an integer or bool input: of the smallest table it indexes, or by what its name says."""
    rows = min(_indexed_rows(value), default=None)
    lowered = name.lower()
    if dtype == "bool" or any(word in lowered for word in _FLAGS):
        return 0, 2
    if lowered in _RATES:
        return 16000, 16001
    return 0, min(rows or _FREE_INTEGERS, 100 if dtype in ("int8", "uint8") else 2**31 - 1)


def _indexed_rows(value: ir.Value, depth: int = 0) -> Iterator[int]:
    """Sizes of the constant tables that `value` picks rows from, also through casts and reshapes."""
    for use in value.uses():
        node, index = use.node, use.idx
        if node.op_type == "Gather" and index == 1 and (table := node.inputs[0]) is not None:
            if table.shape is not None and (rows := _size(table, _axis(node))) is not None:
                yield rows
        elif node.op_type in _FOLLOWED and depth < 8:
            for output in node.outputs:
                yield from _indexed_rows(output, depth + 1)


def _axis(node: ir.Node) -> int:
    attribute = node.attributes.get("axis")
    return int(attribute.as_int()) if attribute is not None else 0


def _size(table: ir.Value, axis: int) -> int | None:
    shape = list(table.shape or ())
    if not -len(shape) <= axis < len(shape):
        return None
    size = shape[axis]
    return size if isinstance(size, int) and size > 0 else None
