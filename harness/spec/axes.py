"""Axes that hang together: sizes with names, and sizes that follow from them (`past + seq`).

A size is an expression of names, whole numbers, `+`, `-`, `*` and `//`, read by a whitelist over Python's
syntax tree: nothing is ever evaluated as code.
"""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.spec.types import AXIS_NAME, Count, Part, Size

Bound = Literal["min", "opt", "max"]
Dim = int | str
"""A size as a spec writes it: a whole number, or an expression."""
AxisName = Annotated[str, Field(pattern=AXIS_NAME, max_length=100)]
MAX_TEXT, MAX_NAMES, MAX_SIZE = 200, 8, 2**40
_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}
)
_LANGUAGE = "must be names of axes, whole numbers, +, -, * and //"


class AxisRange(Part):
    """Smallest, usual and largest size of a named axis; a bare number means all three.

    `multiple_of`: what every size the harness picks between them is a multiple of.
    """

    min: Size
    opt: Size
    max: Size
    multiple_of: Count = 1

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"min": value, "opt": value, "max": value}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> AxisRange:
        if not self.min <= self.opt <= self.max:
            raise ValueError("must hold min <= opt <= max")
        for size in (self.min, self.opt, self.max):
            if size % self.multiple_of:
                raise ValueError(f"{size} is no multiple of multiple_of = {self.multiple_of}")
        return self


@dataclass(frozen=True)
class Expression:
    """A size that follows from named axes."""

    text: str
    names: frozenset[str]
    _tree: ast.expr

    @property
    def name(self) -> str | None:
        """The axis that the size is, where it is one and no more."""
        return self._tree.id if isinstance(self._tree, ast.Name) else None

    def at(self, sizes: Mapping[str, int]) -> int:
        """The size where its axes have `sizes`.

        Raises ValueError, one line: an axis unknown, a division by 0, a result that is no size.
        """
        self._require(sizes)
        try:
            found = _value(self._tree, sizes)
        except ZeroDivisionError:
            raise ValueError(f"divides by 0 where {_assigned(self.names, sizes)}") from None
        if not 0 <= found <= MAX_SIZE:
            raise ValueError(f"is {found} where {_assigned(self.names, sizes)}: must be 0 to {MAX_SIZE}")
        return found

    def bounds(self, ranges: Mapping[str, AxisRange]) -> tuple[int, int]:
        """The smallest and the largest size at the ends of the axes.  Raises ValueError."""
        self._require(ranges)
        ends = [[(name, ranges[name].min), (name, ranges[name].max)] for name in sorted(self.names)]
        found = [self.at(dict(corner)) for corner in itertools.product(*ends)]
        return min(found), max(found)

    def _require(self, known: Mapping[str, object]) -> None:
        if unknown := sorted(self.names - known.keys()):
            raise ValueError(f"no such axis as {unknown[0]!r}; the axes are {_listed(known)}")


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The expression in `text`.  Raises ValueError, one line, for what is none."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"must be of at most {MAX_TEXT} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(_LANGUAGE) from None
    names = frozenset(_names(tree))
    if len(names) > MAX_NAMES:
        raise ValueError(f"must name at most {MAX_NAMES} axes")
    return Expression(text, names, tree)


def size_of(dim: Dim, sizes: Mapping[str, int]) -> int:
    """The size that `dim` is where the axes have `sizes`.  Raises ValueError."""
    return parse(dim).at(sizes) if isinstance(dim, str) else dim


def _names(tree: ast.expr) -> Iterator[str]:
    """The names in a tree of the whitelist.  Raises ValueError for any other."""
    match tree:
        case ast.Name(id=name):
            yield name
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            pass
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            yield from _names(inner)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield from _names(left)
            yield from _names(right)
        case _:
            raise ValueError(_LANGUAGE)


def _value(tree: ast.expr, sizes: Mapping[str, int]) -> int:
    match tree:
        case ast.Name(id=name):
            return sizes[name]
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(operand=inner):
            return -_value(inner, sizes)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, sizes), _value(right, sizes))
    raise ValueError(_LANGUAGE)


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(map(repr, names)) or "none: declare them as `axes`"


def _assigned(names: frozenset[str], sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {sizes[name]}" for name in sorted(names)) or "it stands alone"
