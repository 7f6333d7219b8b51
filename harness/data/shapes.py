"""The shapes at which a profile is tested: its min, opt and max, shapes between them, and odd ones out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Literal, get_args

from harness.data.shape_classes import Sizes, corners, mixed, pairwise
from harness.options import Effort
from harness.spec.axes import Bound, parse
from harness.spec.model_spec import ModelSpec, Profile, Shape

Label = Literal["min", "opt", "max", "between", "mixed", "corner", "pair"]
MOST: Mapping[Effort, int] = MappingProxyType({"quick": 6, "normal": 18, "thorough": 96})
"""How many shapes of a profile are tested, at most."""

BOUNDS: tuple[Bound, ...] = get_args(Bound)
BETWEEN = (0.2, 0.45, 0.8)
"""Positions from min (0) to max (1); none is a power of two of anything, so sizes come out uneven."""


@dataclass(frozen=True)
class Case:
    """A shape for every input, where in the profile it lies, and the sizes of its axes."""

    label: Label
    shapes: Mapping[str, Shape]
    sizes: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def extra(self) -> bool:
        """Whether axes do not move together here, so that the model itself may refuse the shape."""
        return self.label in ("mixed", "corner", "pair")


def cases_of(profile: Profile, effort: Effort = "quick") -> tuple[Case, ...]:
    """The cases of `profile`, each shape once: min, opt, max, those between, then what more effort adds.

    In a quick test all axes move together, from min to max at the same position, so that axes that must
    agree (a batch size shared by inputs, an image's sides) still do, whether they have names or not.
    Between, sizes are odd where they may be.
    """
    unique: dict[tuple[tuple[str, Shape], ...], Case] = {}
    for label, sizes in chain(_together(profile), _apart(profile, effort)):
        shapes = _shapes_at(profile, sizes)
        if shapes is not None:
            unique.setdefault(tuple(shapes.items()), Case(label, shapes, sizes))
        if len(unique) == MOST[effort]:
            break
    return tuple(unique.values())


def _together(profile: Profile) -> Iterator[tuple[Label, Sizes]]:
    for bound in BOUNDS:
        yield bound, {name: getattr(axis, bound) for name, axis in profile.ranges.items()}
    for position in BETWEEN:
        yield "between", _sizes_at(profile, position)


def _apart(profile: Profile, effort: Effort) -> Iterator[tuple[Label, Sizes]]:
    """Sizes that move one by one: kinds of sizes mixed, and corners; thorough, all kinds pair by pair."""
    if effort == "quick":
        return
    ranges = profile.ranges
    yield from (("mixed", sizes) for sizes in mixed(ranges))
    yield from (("corner", sizes) for sizes in corners(ranges))
    if effort == "thorough":
        yield from (("pair", sizes) for sizes in pairwise(ranges, [*mixed(ranges), *corners(ranges)]))


def _shapes_at(profile: Profile, sizes: Sizes) -> dict[str, Shape] | None:
    """The shapes of axes with `sizes`; None where an input's would leave its range."""
    shapes = profile.shapes_at(sizes)
    return shapes if profile.holds(shapes) else None


def at_position(profile: Profile, position: float) -> dict[str, Shape]:
    """The shapes where every axis is at `position` (0 to 1) from min to max."""
    return profile.shapes_at(_sizes_at(profile, position))


def _sizes_at(profile: Profile, position: float) -> Sizes:
    axes = profile.ranges.items()
    return {n: _size(a.min, a.max, a.multiple_of, position) for n, a in axes}


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
