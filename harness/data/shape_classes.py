"""Kinds of sizes that engines get wrong, which of them a set of shapes has, and shapes that have them.

A class is a kind of size of one axis, or a corner: one axis at its smallest and another at its largest.
Kernels are chosen by size: an engine may be wrong at multiples of 8 alone, or at batch 1 with many tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from types import MappingProxyType

from harness.spec.axes import AxisRange

Sizes = Mapping[str, int]
NEAR = 64
"""Steps from the middle of an axis within which a size of a kind is looked for."""

MIXED = ("even", "of 8", "of 16", "max - 1", "opt + 1")
"""Kinds that are given to all axes at once, each axis another one."""


def _inner(axis: AxisRange, size: int) -> bool:
    return size not in (axis.min, axis.opt, axis.max)


KINDS: Mapping[str, Callable[[AxisRange, int], bool]] = MappingProxyType(
    {
        "min": lambda axis, size: size == axis.min,
        "opt": lambda axis, size: size == axis.opt,
        "max": lambda axis, size: size == axis.max,
        "odd": lambda axis, size: _inner(axis, size) and size % 2 == 1,
        "even": lambda axis, size: _inner(axis, size) and size % 2 == 0 and size % 8 != 0,
        "of 8": lambda axis, size: _inner(axis, size) and size % 16 == 8,
        "of 16": lambda axis, size: _inner(axis, size) and size % 16 == 0,
        "max - 1": lambda axis, size: _inner(axis, size) and size == axis.max - axis.multiple_of,
        "opt + 1": lambda axis, size: _inner(axis, size) and size == axis.opt + axis.multiple_of,
    }
)

Class = tuple[tuple[str, str], ...]
"""Kinds of sizes by axis, which a shape has together: one, or the two of a corner."""


@dataclass(frozen=True)
class Coverage:
    """How many shapes are run, and how many of the classes they have; `missing` are the others, in words."""

    shapes: int
    classes: int
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        found = f"{self.shapes} shapes, {self.classes - len(self.missing)} of {self.classes} classes"
        return found + (f", without {', '.join(self.missing)}" if self.missing else "")


def coverage(ranges: Mapping[str, AxisRange], sizes: Sequence[Sizes]) -> Coverage:
    """Which classes of axes with `ranges` are among `sizes`, one mapping a shape."""
    every = list(classes_of(ranges))
    missing = [one for one in every if not any(_has(ranges, one, each) for each in sizes)]
    return Coverage(len(sizes), len(every), tuple(map(_words, missing)))


def classes_of(ranges: Mapping[str, AxisRange]) -> Iterator[Class]:
    """The classes there are: kinds that an axis has room for, and the corners of every two axes."""
    for name, axis in _free(ranges).items():
        yield from (((name, kind),) for kind in KINDS if size_of(axis, kind) is not None)
    for low, high in permutations(_free(ranges), 2):
        yield (low, "min"), (high, "max")


def mixed(ranges: Mapping[str, AxisRange]) -> Iterator[Sizes]:
    """Sizes that have every kind of MIXED on every axis, and seldom the same kind on two."""
    free = _free(ranges)
    for turn in range(len(MIXED) if free else 0):
        kinds = {name: MIXED[(turn + 2 * place) % len(MIXED)] for place, name in enumerate(free)}
        yield _sizes(ranges, kinds)


def corners(ranges: Mapping[str, AxisRange]) -> Iterator[Sizes]:
    """Each axis at its largest with the others at their smallest, and the other way round."""
    free = _free(ranges)
    for name in free if len(free) > 1 else ():
        yield _sizes(ranges, {other: "max" if other == name else "min" for other in free})
    for name in free if len(free) > 2 else ():  # with two axes these are the same
        yield _sizes(ranges, {other: "min" if other == name else "max" for other in free})


def pairwise(ranges: Mapping[str, AxisRange], known: Iterable[Sizes]) -> Iterator[Sizes]:
    """Sizes that, with the `known`, have every kind of an axis beside every kind of each other."""
    wanted = _pairs(ranges)
    for sizes in known:
        wanted = [pair for pair in wanted if not _has(ranges, pair, sizes)]
    while wanted:
        kinds: dict[str, str] = {}
        for pair in wanted:
            if all(kinds.get(name, kind) == kind for name, kind in pair):
                kinds.update(pair)
        sizes = _sizes(ranges, kinds)
        yield sizes
        wanted = [pair for pair in wanted[1:] if not _has(ranges, pair, sizes)]


def _pairs(ranges: Mapping[str, AxisRange]) -> list[Class]:
    kinds = {n: [k for k in KINDS if size_of(a, k) is not None] for n, a in _free(ranges).items()}
    if len(kinds) == 1:
        return [((name, kind),) for name, each in kinds.items() for kind in each]
    names = list(kinds)
    twos = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    return [((a, x), (b, y)) for a, b in twos for x, y in product(kinds[a], kinds[b])]


def size_of(axis: AxisRange, kind: str) -> int | None:
    """A size of `kind` that the axis allows, near its middle; None where there is none."""
    fixed = {
        "min": axis.min,
        "opt": axis.opt,
        "max": axis.max,
        "max - 1": axis.max - axis.multiple_of,
        "opt + 1": axis.opt + axis.multiple_of,
    }
    step = axis.multiple_of
    middle = (axis.min + axis.max) // 2 // step * step
    steps = [0, *(sign * n for n in range(1, NEAR) for sign in (1, -1))]
    sizes = [fixed[kind]] if kind in fixed else [middle + n * step for n in steps]
    fits = (size for size in sizes if axis.min <= size <= axis.max and KINDS[kind](axis, size))
    return next(fits, None)


def _sizes(ranges: Mapping[str, AxisRange], kinds: Mapping[str, str]) -> Sizes:
    """A size of the kind of every axis; opt where it has none."""
    found = {name: size_of(ranges[name], kind) for name, kind in kinds.items()}
    return {n: axis.opt if found.get(n) is None else found[n] for n, axis in ranges.items()}  # type: ignore[misc]


def _free(ranges: Mapping[str, AxisRange]) -> dict[str, AxisRange]:
    return {name: axis for name, axis in ranges.items() if axis.min < axis.max}


def _has(ranges: Mapping[str, AxisRange], one: Class, sizes: Sizes) -> bool:
    return all(KINDS[kind](ranges[name], sizes[name]) for name, kind in one)


def _words(one: Class) -> str:
    return " with ".join(f"{name} {kind}" for name, kind in one)
