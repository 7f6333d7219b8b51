"""The shapes at which a profile is tested: its min, opt and max, and shapes between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from harness.spec.axes import Bound, parse
from harness.spec.model_spec import ModelSpec, Profile, Shape

Label = Literal["min", "opt", "max", "between"]
BOUNDS: tuple[Bound, ...] = get_args(Bound)
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
    size shared by inputs, an image's sides) still do, whether they have names or not.  Between, sizes are odd
    where they may be.
    """
    cases = [_case(bound, profile.at(bound)) for bound in BOUNDS]
    cases += [_case("between", at_position(profile, t)) for t in BETWEEN]
    unique: dict[tuple[tuple[str, Shape], ...], Case] = {}
    for case in cases:
        unique.setdefault(tuple(case.shapes.items()), case)
    return tuple(unique.values())


def at_position(profile: Profile, position: float) -> dict[str, Shape]:
    """The shapes where every axis is at `position` (0 to 1) from min to max."""
    axes = profile.ranges.items()
    return profile.shapes_at({n: _size(a.min, a.max, a.multiple_of, position) for n, a in axes})


def at_batch(spec: ModelSpec, profile: Profile, size: int) -> dict[str, Shape] | None:
    """The opt shapes with another batch size, which named axes follow; None where none fit."""
    counted = {
        name: axis
        for name, part in profile.shapes.items()
        if (axis := spec.inputs[name].batch_axis) is not None and part.opt
    }
    usual = {name: axis.opt for name, axis in profile.ranges.items()}
    shapes = profile.shapes_at(usual | dict.fromkeys(_batch_names(profile, counted), size))
    for name, axis in counted.items():
        if profile.shapes[name].dims is None:
            shapes[name] = (*shapes[name][:axis], size, *shapes[name][axis + 1 :])
    fits = all(shapes[name][axis] == size for name, axis in counted.items())
    return shapes if counted and fits and profile.holds(shapes) else None


def _batch_names(profile: Profile, counted: Mapping[str, int]) -> Iterator[str]:
    """The named axes that count samples."""
    for name, axis in counted.items():
        dim = (profile.shapes[name].dims or (1,) * (axis + 1))[axis]
        if isinstance(dim, str) and (found := parse(dim).name):
            yield found


def _size(low: int, high: int, multiple: int, position: float) -> int:
    """A size between `low` and `high`: a multiple of `multiple`, an odd number of times if possible."""
    steps = round((low + position * (high - low)) / multiple)
    if steps % 2 == 0 and (steps + 1) * multiple < high:
        steps += 1
    return max(low, min(high, steps * multiple))


def _case(label: Label, shapes: Mapping[str, Shape]) -> Case:
    return Case(label, dict(shapes))
