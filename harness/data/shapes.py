"""The shapes at which a profile is tested: its min, opt and max, and shapes between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.spec.model_spec import Profile, Shape, ShapeRange

Label = Literal["min", "opt", "max", "between"]
BETWEEN = (0.2, 0.45, 0.8)
"""Positions from min (0) to max (1); none is a power of two of anything, so sizes come out uneven."""


@dataclass(frozen=True)
class Case:
    """A shape for every input, and where in the profile it lies."""

    label: Label
    shapes: Mapping[str, Shape]


def cases_of(profile: Profile) -> tuple[Case, ...]:
    """The cases of `profile`, each shape once: min, opt, max, then those between.

    All axes move together, from min to max at the same position, so that axes that must agree (a batch
    size shared by inputs, an image's sides) still do.  Between, sizes are odd where they may be.
    """
    cases = [
        _case("min", {name: r.min for name, r in profile.shapes.items()}),
        _case("opt", {name: r.opt for name, r in profile.shapes.items()}),
        _case("max", {name: r.max for name, r in profile.shapes.items()}),
    ]
    cases += [_case("between", {n: between(r, t) for n, r in profile.shapes.items()}) for t in BETWEEN]
    unique: dict[tuple[tuple[str, Shape], ...], Case] = {}
    for case in cases:
        unique.setdefault(tuple(case.shapes.items()), case)
    return tuple(unique.values())


def between(shapes: ShapeRange, position: float) -> Shape:
    """The shape at `position` (0 to 1) from min to max."""
    axes = zip(shapes.min, shapes.max, shapes.multiples, strict=True)
    return tuple(_size(low, high, multiple, position) for low, high, multiple in axes)


def _size(low: int, high: int, multiple: int, position: float) -> int:
    """A size between `low` and `high`: a multiple of `multiple`, an odd number of times if possible."""
    steps = round((low + position * (high - low)) / multiple)
    if steps % 2 == 0 and (steps + 1) * multiple < high:
        steps += 1
    return max(low, min(high, steps * multiple))


def _case(label: Label, shapes: Mapping[str, Shape]) -> Case:
    return Case(label, dict(shapes))
