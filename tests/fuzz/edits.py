"""Edits of valid things that make hostile ones: bytes, trees of plain data, protobuf messages.

An edit is plain data drawn by hypothesis; places are numbers that wrap around, so every edit fits everything.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Edit = tuple[str, int, int]

TEXTS = (
    "",
    "\x00",
    "\x1b[2J\x1b]0;owned\x07",
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    "/etc/passwd",
    "a\r\nb\u2028c",
    "\u202ebackwards",
    "%s%n{0}{x!r}",
    "'; $(id) `id`",
    "x" * 100_000,
    "y" * 300,
    "-1",
    "1e999",
    "\U0001f600",
)
NUMBERS = (
    0, 1, -1, 2, 255, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**62, 2**63 - 1, -(2**63), 10**400,
    0.0, -0.0, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan,
)  # fmt: skip
ODD: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": {}}, [1, "a", None], [[[[[[]]]]]])
VALUES = (*TEXTS, *NUMBERS, *ODD)
OPERATIONS = ("replace", "remove", "double", "rename", "swap", "wrap")


def edits(operations: Sequence[str] = OPERATIONS, most: int = 4) -> st.SearchStrategy[list[Edit]]:
    """Lists of edits: an operation, a place, and which hostile value."""
    number = st.integers(0, 2**32 - 1)
    return st.lists(st.tuples(st.sampled_from(operations), number, number), min_size=1, max_size=most)


def bytes_edited(data: bytes, found: Sequence[Edit]) -> bytes:
    """`data` with bytes flipped, cut out, repeated or overwritten."""
    made = bytearray(data)
    for operation, place, value in found:
        at = place % (len(made) + 1)
        size = value % 64 + 1
        if operation == "remove":
            del made[at : at + (size if value % 5 else len(made))]
        elif operation == "double":
            made[at:at] = made[at : at + size]
        elif operation == "replace" and made:
            made[at % len(made)] ^= 1 << value % 8
        elif operation == "rename":
            made[at : at + size] = value.to_bytes(4, "little") * 2
        elif operation == "swap":
            made[at:at], made[-size:] = made[-size:], b""
        elif operation == "wrap":
            made[at : at + 8] = b"\xff" * 8
    return bytes(made)


def tree_edited(tree: Any, found: Sequence[Edit], values: Sequence[Any] = VALUES) -> Any:
    """A copy of `tree`, made of dicts, lists and scalars, with parts replaced, removed or renamed."""
    made = copy.deepcopy(tree)
    for operation, place, value in found:
        places = _places(made)
        if places:
            _edit_tree(operation, *places[place % len(places)], values[value % len(values)], places, value)
    return made


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in `tree`."""
    found: list[tuple[Any, Any]] = []
    stack = [tree]
    while stack:
        here = stack.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        found.extend((here, key) for key in keys)
        stack.extend(here[key] for key in keys)
    return found


def _edit_tree(operation: str, here: Any, key: Any, value: Any, places: Any, number: int) -> None:
    if operation == "replace":
        here[key] = copy.deepcopy(value)
    elif operation == "remove":
        del here[key]
    elif operation == "wrap":
        here[key] = [here[key]]
    elif operation == "swap":
        there, other = places[number % len(places)]
        here[key] = copy.deepcopy(there[other])
    elif isinstance(here, list):
        here.append(copy.deepcopy(here[key]))
    else:
        here[str(value)[:1000] if operation == "rename" else f"{key}2"] = here.pop(key)


def message_edited(message: Any, found: Sequence[Edit]) -> Any:
    """A copy of a protobuf `message` with fields overwritten, cleared, doubled or swapped."""
    made = type(message)()
    made.CopyFrom(message)
    for operation, place, value in found:
        fields = _fields(made)
        if fields:
            _edit_field(operation, *fields[place % len(fields)], value, fields)
    return made


def _fields(message: Any) -> list[tuple[Any, Any]]:
    """Every (message, descriptor of a set field) in `message`."""
    found: list[tuple[Any, Any]] = []
    stack = [message]
    while stack:
        here = stack.pop()
        for descriptor, content in here.ListFields():
            found.append((here, descriptor))
            if descriptor.message_type:
                stack.extend(list(content) if descriptor.is_repeated else [content])
    return found


def _edit_field(operation: str, here: Any, descriptor: Any, value: int, fields: Any) -> None:
    name = descriptor.name
    if operation == "remove":
        here.ClearField(name)
    elif descriptor.message_type:
        _edit_part(operation, here, descriptor, value, fields)
    elif descriptor.is_repeated:
        _edit_scalars(operation, getattr(here, name), descriptor, value)
    else:
        _try(lambda: setattr(here, name, _scalar(descriptor, value)))


def _edit_part(operation: str, here: Any, descriptor: Any, value: int, fields: Any) -> None:
    content = getattr(here, descriptor.name)
    if descriptor.is_repeated:
        part = content[value % len(content)]
        if operation == "double":
            content.add().CopyFrom(part)
        elif operation in ("swap", "replace"):
            del content[value % len(content)]
        return
    same = [(m, d) for m, d in fields if d.message_type is descriptor.message_type and not d.is_repeated]
    if operation in ("swap", "wrap") and same:
        there, other = same[value % len(same)]
        # A copy first: protobuf crashes where one of the two messages holds the other.
        part = type(content)()
        part.CopyFrom(getattr(there, other.name))
        content.CopyFrom(part)


def _edit_scalars(operation: str, content: Any, descriptor: Any, value: int) -> None:
    if operation == "double":
        _try(lambda: content.append(_scalar(descriptor, value)))
    elif len(content):
        _try(lambda: content.__setitem__(value % len(content), _scalar(descriptor, value // 7)))


def _scalar(descriptor: Any, value: int) -> Any:
    """A hostile value that the field may take; small numbers too, as most fields are enumerations."""
    kinds = {
        descriptor.CPPTYPE_STRING: TEXTS,
        descriptor.CPPTYPE_FLOAT: NUMBERS[14:],
        descriptor.CPPTYPE_DOUBLE: NUMBERS[14:],
    }
    chosen: Sequence[Any] = kinds.get(descriptor.cpp_type, (*NUMBERS[:13], *range(3, 30)))
    found = chosen[value % len(chosen)]
    return found.encode() if descriptor.type == descriptor.TYPE_BYTES else found


def _try(edit: Callable[[], Any]) -> None:
    """Make an edit, if protobuf takes it."""
    try:
        edit()
    except (ValueError, TypeError, UnicodeError):
        return
