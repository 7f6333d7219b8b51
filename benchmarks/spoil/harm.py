"""Whether a fault does harm: rules of their own, in NumPy, that know nothing of how the harness judges.

A spoilt engine is run over the world (`world`).  Let its error in a set of elements be sum|o - r| / sum|r|, r
the FP32 reference.  The rules, in their order:

    structure   Harm: a name, a shape or a kind of dtype differs, or NaN or an infinity is where none was.
    idle        No harm: nowhere does it move a number by more than 4 unit roundoffs of the precision.
    slice       Harm: in some slice (one index of one axis over all feeds of that shape; one sample; one whole
                feed) of 8 elements or more the error is above max(min(10 limits, 0.5), 4 times the right
                engine's error in that same slice).  A slice whose mean |r| is below a millionth of the
                largest |r| of its output holds nothing.
    whole       Harm: the error of an output over all feeds of one shape is above the limit of the precision,
                and above twice the right engine's.
    decision    Harm: of the decisions of an output that holds scores, more than 1 % (and more than one)
                change although the reference's two best are further apart than the limit, of the best's size.
    element     Harm: an element is off by its allowance of the stated table: max(limit, 50 limits), at most
                its own size without INT8, of max(|r|, mean |r|); and by 4 times the right engine's largest.
    within      No harm otherwise: below the stated tolerance in every slice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.spoil.bench import Bench
from benchmarks.spoil.engines import Array, Spoilt
from benchmarks.spoil.world import Met
from harness.precision import Precision

ROUNDOFF = {"fp32": 2.0**-24, "tf32": 2.0**-11, "fp16": 2.0**-11, "bf16": 2.0**-8, "int8": 2.0**-8}
LEAST, NOTHING = 8, 1e-6


@dataclass(frozen=True)
class Harm:
    """`rule` names the rule that decided; `how` the figure, for harm."""

    harmful: bool
    rule: str
    how: str = ""


@dataclass(frozen=True)
class Group:
    """All feeds of one shape of an output: reference, right and spoilt answers as float64 [feeds, ...]."""

    name: str
    reference: Array
    right: Array
    spoilt: Array


def harm_of(bench: Bench, engine: Spoilt, world: Sequence[Met]) -> Harm:
    """Whether the fault of `engine`, freshly loaded, does harm anywhere in the world."""
    engine, answers = engine.fresh(), []
    for met in world:
        found = engine.run(met.feeds, met.profile)
        if how := _structure(bench, found, met):
            return Harm(True, "structure", how)
        answers.append(found)
    groups = list(_groups(bench, world, answers))
    limit = bench.spec.tolerance(bench.precision).limit
    if not any(_moved(bench, group) for group in groups):
        return Harm(False, "idle")
    for group in groups:
        for rule, how in _harms(bench, group, limit):
            return Harm(True, rule, f"{group.name}: {how}")
    return Harm(False, "within")


def _structure(bench: Bench, found: dict[str, Array], met: Met) -> str:
    names = set(bench.subject.output_names)
    if set(found) != set(met.right):
        return f"outputs {sorted(found)}"
    for name in names:
        one, right = found[name], met.right[name]
        if one.shape != right.shape or (one.dtype.kind == "f") != (right.dtype.kind == "f"):
            return f"{name}: {one.dtype} {one.shape}"
        if one.dtype.kind == "f" and (~np.isfinite(one) & np.isfinite(met.reference[name])).any():
            return f"{name}: not finite"
    return ""


def _groups(bench: Bench, world: Sequence[Met], answers: Sequence[dict[str, Array]]) -> Iterator[Group]:
    for name in bench.subject.output_names:
        members = defaultdict(list)
        for met, found in zip(world, answers, strict=True):
            if met.right[name].size:
                members[met.right[name].shape].append((met.reference[name], met.right[name], found[name]))
        for parts in members.values():
            yield Group(name, *(np.stack(part).astype(np.float64) for part in zip(*parts, strict=True)))


def _moved(bench: Bench, group: Group) -> bool:
    moved = np.abs(group.spoilt - group.right)
    return bool((moved > 4 * _roundoff(bench.precision) * np.abs(group.right)).any())


def _roundoff(precision: Precision) -> float:
    return ROUNDOFF[str(precision).split("+")[0]]


def _harms(bench: Bench, group: Group, limit: float) -> Iterator[tuple[str, str]]:
    yield from _slices(group, limit)
    yield from _wholes(group, limit)
    if (changed := _decisions(bench, group, limit)) > 0:
        yield "decision", f"{changed:.1%} of decisions change"
    worst, own = (_element(group, one) for one in (group.spoilt, group.right))
    allowed = 50 * limit if bench.precision.quantized else min(50 * limit, 1.0)
    if worst > max(limit, allowed, 4 * own):
        yield "element", f"an element off by {worst:.1e}"


def _slices(group: Group, limit: float) -> Iterator[tuple[str, str]]:
    bound = min(10 * limit, 0.5)
    for keep in _axes(group.reference.ndim):
        size, error, own, count = _sums(group, keep)
        real = (size > NOTHING * np.abs(group.reference).max() * count) & (count >= LEAST)
        bad = real & (error > np.maximum(bound * size, 4 * own))
        if bad.any():
            k = np.unravel_index(
                int(np.argmax(np.where(bad, error / np.maximum(size, 1e-300), 0))), bad.shape
            )
            where = ", ".join(f"axis {a - 1}" if a else "feed" for a in keep)
            yield "slice", f"{error[k] / size[k]:.1e} at {tuple(map(int, k))} of {where}"


def _axes(ndim: int) -> Iterator[tuple[int, ...]]:
    """The axes that name a slice: each feed, each row of a feed, each index of each axis."""
    yield (0,)
    if ndim > 1:
        yield (0, 1)
    yield from ((axis,) for axis in range(1, ndim))


def _sums(group: Group, keep: tuple[int, ...]) -> tuple[Array, Array, Array, int]:
    rest = tuple(axis for axis in range(group.reference.ndim) if axis not in keep)
    size = np.abs(group.reference).sum(rest)
    error = np.abs(group.spoilt - group.reference).sum(rest)
    own = np.abs(group.right - group.reference).sum(rest)
    return size, error, own, max(1, group.reference.size // max(1, size.size))


def _wholes(group: Group, limit: float) -> Iterator[tuple[str, str]]:
    size, error, own, _ = _sums(group, ())
    if error > max(limit * size, 2 * own):
        yield "whole", f"mre {error / max(size, 1e-300):.1e}"


SCORES = {
    "mnist_cnn": 1, "tabular_mlp": 1, "magika": 1, "doc_orientation": 1, "ppocrv4_rec": 2,
    "classifier": 1, "segmenter": 1, "decoder": 2,
}  # fmt: skip
"""Models whose first output holds scores, and the axis that counts the classes."""


def _decisions(bench: Bench, group: Group, limit: float) -> float:
    """The share of sure decisions that change beyond what the right engine changes; 0 where one does."""
    axis = SCORES.get(bench.spec.name)
    if axis is None or group.name != bench.subject.output_names[0] or group.reference.ndim <= axis + 1:
        return 0.0
    if group.reference.shape[axis + 1] < 2:
        return 0.0
    values = np.sort(group.reference, axis + 1)
    best, second = (np.take(values, -k, axis + 1) for k in (1, 2))
    sure = best - second > limit * np.abs(best)
    chosen, own, right = (a.argmax(axis + 1) for a in (group.spoilt, group.right, group.reference))
    changed = sure & (chosen != right) & (own == right)
    few = changed.sum() <= max(1, 0.01 * changed.size)
    return 0.0 if few else float(changed.mean())


def _element(group: Group, found: Array) -> float:
    scale = np.maximum(np.abs(group.reference), np.abs(group.reference).mean())
    return float((np.abs(found - group.reference) / np.maximum(scale, 1e-300)).max())
