"""Batches of a spec's data and their rows: which axis counts them, in the inputs and in the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Tensors
from harness.data.inputs import Feeds
from harness.data.shapes import at_batch
from harness.spec.model_spec import ModelSpec, Profile, Shape

ROWS = 5
"""Rows in a batch, where the profile allows as many: odd, and more than two."""

Outputs = Mapping[str, NDArray[Any]]
Run = Callable[[Tensors], Outputs]


class InapplicableError(Exception):
    """A property says nothing about a model or profile; carries why."""


@dataclass(frozen=True)
class Batches:
    """The batches that one profile allows.  Everything raises InapplicableError where there are none."""

    spec: ModelSpec
    profile: Profile
    feeds: Feeds

    @cached_property
    def axes(self) -> Mapping[str, int]:
        """The batch axis of each input that has one."""
        shapes = self.profile.shapes
        parts = self.spec.inputs.items()
        found = {n: p.batch_axis for n, p in parts if p.batch_axis is not None and shapes[n].opt}
        if not found:
            raise InapplicableError("no input has a batch axis")
        return found

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest batch size; the smallest at least 1, the largest at least 2."""
        shapes = self.profile.shapes
        sizes = {(shapes[n].min[axis], shapes[n].max[axis]) for n, axis in self.axes.items()}
        low, high = max(1, min(low for low, _ in sizes)), max(high for _, high in sizes)
        if len(sizes) > 1 or self.feeds.rows({n: r.max for n, r in shapes.items()}) < high:
            raise InapplicableError("its inputs have no batch axis in common")
        if high == 1:
            raise InapplicableError("its batch size is fixed at 1")
        return low, high

    @property
    def usual(self) -> int:
        """ROWS, or as near as the profile allows."""
        low, high = self.bounds
        return max(low, min(high, ROWS))

    @property
    def several(self) -> Sequence[int]:
        """Several batch sizes above the smallest, each a multiple of it."""
        low, high = self.bounds
        if high < 2 * low:
            raise InapplicableError(f"its batch size is {low} to {high}: no batch is made of smaller ones")
        return sorted({k * low for k in (2, 3, 5) if k * low <= high} | {high - high % low})

    def feed(self, size: int) -> dict[str, NDArray[Any]]:
        """A feed of `size` samples, at opt on every other axis."""
        shapes = at_batch(self.spec, self.profile, size)
        if shapes is None:
            raise InapplicableError(f"its axes do not follow a batch of {size}")
        return self.feeds.feed(shapes)

    def take(self, feed: Tensors, rows: Iterable[int]) -> dict[str, NDArray[Any]]:
        """The given rows of a feed."""
        chosen = list(rows)
        return {n: np.take(a, chosen, self.axes[n]) if n in self.axes else a for n, a in feed.items()}

    def output_axes(self, outputs: Outputs, size: int, run: Run) -> dict[str, int]:
        """The axis that counts rows of each output compared: the one whose size follows the batch size."""
        low, high = self.bounds
        other = low if low != size else high
        probe = outputs if other == size else run(self.feed(other))
        ignored = {n for n, rule in self.spec.outputs.items() if rule.compare == "ignore"}
        found = {n: _axis(a.shape, probe[n].shape, (size, other)) for n, a in outputs.items()}
        axes = {n: axis for n, axis in found.items() if axis is not None and n not in ignored}
        if not axes:
            raise InapplicableError("no output has a batch axis")
        return axes

    def coupled(self, outputs: Outputs, size: int, run: Run) -> dict[str, tuple[int, ...]]:
        """The axes that follow the batch size, of each output that has several: it relates samples."""
        low, high = self.bounds
        other = low if low != size else high
        probe = outputs if other == size else run(self.feed(other))
        found = {n: _axes(a.shape, probe[n].shape, (size, other)) for n, a in outputs.items()}
        return {n: axes for n, axes in found.items() if len(axes) > 1 and other != size}


def stacked(
    outputs: Sequence[Outputs], rows: int = 1, like: Outputs | None = None
) -> Outputs | Sequence[Outputs]:
    """Outputs of several feeds of `rows` samples as of one feed, samples first, however many feeds they were.

    The first axis as long as `rows` counts samples; outputs without one get a new first axis.  `like`, the
    reference's outputs for one feed, says which it is: an output of another shape is not turned to fit.  As
    they are where names, shapes or dtypes differ between feeds.
    """
    kinds = [{name: (array.shape, array.dtype) for name, array in one.items()} for one in outputs]
    if any(kind != kinds[0] for kind in kinds):
        return outputs
    shapes = {name: array.shape for name, array in (outputs[0] if like is None else like).items()}
    return {n: _joined([one[n] for one in outputs], rows, shapes.get(n)) for n in outputs[0]}


def _joined(parts: Sequence[NDArray[Any]], rows: int, shape: Shape | None) -> NDArray[Any]:
    if shape != parts[0].shape or rows not in shape:
        return np.stack(parts) if len(parts) > 1 else parts[0]
    moved = [np.moveaxis(part, shape.index(rows), 0) for part in parts]
    return np.concatenate(moved) if len(moved) > 1 else moved[0]


def take_rows(outputs: Outputs, axes: Mapping[str, int], rows: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The given rows of every output that has rows."""
    return {n: np.take(outputs[n], rows, axis) for n, axis in axes.items()}


def _axis(shape: Shape, probe: Shape, sizes: tuple[int, int]) -> int | None:
    return next(iter(_axes(shape, probe, sizes)), None)


def _axes(shape: Shape, probe: Shape, sizes: tuple[int, int]) -> tuple[int, ...]:
    pairs = enumerate(zip(shape, probe, strict=False))
    return tuple(axis for axis, pair in pairs if pair == sizes)
