"""Where latency is measured: the batch sizes of a spec in the profiles that allow them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.data.shapes import at_batch
from harness.errors import UsageError
from harness.spec.model_spec import ModelSpec, Profile, Shape


@dataclass(frozen=True)
class Point:
    """Where latency is measured: a profile by number and name, a batch size, the inputs' shapes."""

    profile: int
    name: str
    batch: int
    shapes: Mapping[str, Shape]

    @property
    def id(self) -> str:
        """`default-b8`, as in test ids."""
        return f"{self.name}-b{self.batch}"


def points(spec: ModelSpec) -> tuple[Point, ...]:
    """The batch sizes of a spec in every profile that allows them; without any, the opt shapes.

    Raises UsageError for a batch size that no profile allows.
    """
    sizes = spec.benchmark.batch_sizes
    found = [p for i, part in enumerate(spec.profiles) for p in _points(spec, i, part, sizes)]
    lost = sorted(set(sizes) - {point.batch for point in found})
    if lost:
        raise UsageError(f"{spec.path or spec.name}: benchmark.batch_sizes = {lost}: fits no profile")
    return tuple(found)


def _points(spec: ModelSpec, index: int, profile: Profile, sizes: Sequence[int]) -> list[Point]:
    if not sizes:
        shapes = profile.at("opt")
        return [Point(index, profile.name, _batch(spec, shapes), shapes)]
    sized = [(size, at_batch(spec, profile, size)) for size in sizes]
    return [Point(index, profile.name, size, shapes) for size, shapes in sized if shapes is not None]


def _batch(spec: ModelSpec, shapes: Mapping[str, Shape]) -> int:
    axes = {name: spec.inputs[name].batch_axis for name in shapes}
    return next((shapes[n][axis] for n, axis in axes.items() if axis is not None and shapes[n]), 1)
