"""The tables of a model spec about shapes: ranges of sizes, and profiles whose axes hang together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from harness.spec.axes import AxisName, AxisRange, Bound, Dim, Expression, parse, size_of
from harness.spec.types import Count, Part, SafeName, Shape


class ShapeRange(Part):
    """Smallest, usual and largest shape of one input in one profile; a bare list means all three.

    `multiple_of`: per axis, what every size the harness picks between them is a multiple of.
    """

    min: Shape
    opt: Shape
    max: Shape
    multiple_of: tuple[Count, ...] | None = None
    _dims: tuple[Dim, ...] | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _bare_list(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            value = {"min": value, "opt": value, "max": value}
        if not isinstance(value, dict):
            raise ValueError("must be a list of sizes, or a table of min, opt and max")
        return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _ordered(self) -> ShapeRange:
        if len({len(self.min), len(self.opt), len(self.max), len(self.multiples)}) != 1:
            raise ValueError("min, opt, max and multiple_of must have one rank")
        if not all(a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError("must hold min <= opt <= max on every axis")
        for shape in (self.min, self.opt, self.max):
            if any(size % m for size, m in zip(shape, self.multiples, strict=True)):
                raise ValueError(f"{list(shape)} is no multiple of multiple_of = {list(self.multiples)}")
        return self

    @classmethod
    def of(cls, dims: tuple[Dim, ...], axes: Mapping[str, AxisRange]) -> ShapeRange:
        """The range of a shape whose sizes follow from `axes`.  Raises ValueError."""
        usual = {name: axis.opt for name, axis in axes.items()}
        ends = [parse(dim).bounds(axes) if isinstance(dim, str) else (dim, dim) for dim in dims]
        low, high = (tuple(end[i] for end in ends) for i in (0, 1))
        made = cls(min=low, opt=tuple(size_of(dim, usual) for dim in dims), max=high)
        made._dims = dims
        return made

    @property
    def dims(self) -> tuple[Dim, ...] | None:
        """The sizes as they follow from the profile's axes; None where the spec gives numbers."""
        return self._dims

    @property
    def multiples(self) -> tuple[int, ...]:
        """`multiple_of`, with 1 for every axis where it is not given."""
        return (1,) * len(self.min) if self.multiple_of is None else self.multiple_of


class Profile(Part):
    """One optimisation profile: a shape range for every input.

    A shape may name axes (`["batch", "past + seq"]`), whose ranges stand in `axes`: whoever picks sizes of
    axes gets shapes that fit together.  Axes given as numbers move together where their ranges are equal.
    """

    name: SafeName = "default"
    # An engine is built from the ranges that follow, so that is all that it is known by.
    axes: dict[AxisName, AxisRange] = Field(default_factory=dict, exclude=True)
    shapes: dict[str, ShapeRange]

    @field_validator("shapes", mode="before")
    @classmethod
    def _named(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        axes = info.data.get("axes")
        if axes is None:  # They are refused, which is all that is to be told.
            return {name: given for name, given in value.items() if not _has_names(given)}
        return {n: _ranged(n, given, axes) if _has_names(given) else given for n, given in value.items()}

    @model_validator(mode="after")
    def _all_used(self) -> Profile:
        used = {n for e in self._expressions() for n in e.names}
        for name in self.axes:
            if name not in used:
                raise broken_inside(("axes", name), name, "no shape of the profile names this axis")
        return self

    @property
    def ranges(self) -> dict[str, AxisRange]:
        """The axes whose sizes may be chosen: those with names, and `input[axis]` for each other range.

        Axes given as numbers with equal ranges are one, called by the first place where it stands: more is
        not known of them.
        """
        return {**self.axes, **{key: axis for axis, key in self._unnamed().items()}}

    def shapes_at(self, sizes: Mapping[str, int]) -> dict[str, Shape]:
        """The shape of every input where the axes of `ranges` have `sizes`.  Raises ValueError."""
        keys = self._unnamed()
        return {name: self._shape_at(part, sizes, keys) for name, part in self.shapes.items()}

    def at(self, bound: Bound) -> dict[str, Shape]:
        """The shape of every input where all axes are at min, opt or max."""
        return self.shapes_at({name: getattr(axis, bound) for name, axis in self.ranges.items()})

    def sizes_in(self, shapes: Mapping[str, Shape]) -> dict[str, int]:
        """The sizes of named axes, as far as the shapes of some inputs tell them."""
        pairs = (
            (dim, size)
            for name, shape in shapes.items()
            for dim, size in zip(self.shapes[name].dims or (), shape, strict=False)
        )
        return {name: size for dim, size in pairs if isinstance(dim, str) and (name := parse(dim).name)}

    def holds(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether every shape lies in its range."""
        return all(_within(self.shapes[name], shape) for name, shape in shapes.items())

    def _shape_at(self, part: ShapeRange, sizes: Mapping[str, int], keys: Mapping[AxisRange, str]) -> Shape:
        if part.dims is not None:
            return tuple(size_of(dim, sizes) for dim in part.dims)
        return tuple(sizes[keys[one]] if one.min < one.max else one.min for one in _axes(part))

    def _unnamed(self) -> dict[AxisRange, str]:
        found: dict[AxisRange, str] = {}
        for name, part in self.shapes.items():
            for index, axis in enumerate(() if part.dims is not None else _axes(part)):
                if axis.min < axis.max:
                    found.setdefault(axis, f"{name}[{index}]")
        return found

    def _expressions(self) -> Iterator[Expression]:
        for part in self.shapes.values():
            yield from (parse(dim) for dim in part.dims or () if isinstance(dim, str))


def broken_inside(path: tuple[str | int, ...], value: object, rule: str) -> PydanticCustomError:
    """The error of a rule inside a table, whose own place pydantic adds."""
    return PydanticCustomError("broken_inside", "{rule}", {"path": list(path), "value": value, "rule": rule})


def _has_names(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and any(isinstance(dim, str) for dim in given)


def _ranged(name: str, given: list[Any], axes: Mapping[str, AxisRange]) -> ShapeRange:
    """The range of the shape `given`; every size that is none is told by its place."""
    for index, dim in enumerate(given):
        try:
            ShapeRange.of((_dim(dim),), axes)
        except ValueError as error:
            raise broken_inside((name, index), dim, _said(error)) from None
    return ShapeRange.of(tuple(given), axes)


def _dim(dim: Any) -> Dim:
    if isinstance(dim, str) or (isinstance(dim, int) and not isinstance(dim, bool) and dim >= 0):
        return dim
    raise ValueError("must be a size, or an expression of axes")


def _said(error: ValueError) -> str:
    text = str(error)
    return "must hold min <= opt <= max" if "\n" in text else text


def _axes(part: ShapeRange) -> Iterator[AxisRange]:
    for low, usual, high, multiple in zip(part.min, part.opt, part.max, part.multiples, strict=True):
        yield AxisRange(min=low, opt=usual, max=high, multiple_of=multiple)


def _within(part: ShapeRange, shape: Shape) -> bool:
    if len(shape) != len(part.min):
        return False
    return all(a <= size <= b for a, size, b in zip(part.min, shape, part.max, strict=True))
