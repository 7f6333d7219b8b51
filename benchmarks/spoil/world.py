"""What a deployment may meet: more shapes and more data than the suites look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.spoil.bench import Bench
from benchmarks.spoil.engines import Array
from harness.backends.base import Tensors
from harness.errors import HarnessError
from harness.spec.model_spec import Profile, Shape
from harness.verdict.tasks import tasks_of

SHAPES = 16
"""Shapes of each profile, beside those that the suites run."""
SAMPLES = 256
ELEMENTS = 40_000_000
"""Elements of outputs that are kept, about."""


@dataclass(frozen=True)
class Met:
    """One feed of a profile, what the reference answers and what the right engine does."""

    profile: int
    feeds: Tensors
    reference: Mapping[str, Array]
    right: Mapping[str, Array]


def world_of(bench: Bench) -> list[Met]:
    """The feeds of the suites, then other shapes, then all samples at opt; those that run."""
    found, room = [], ELEMENTS
    for profile, feeds in _feeds(bench):
        try:
            met = Met(profile, feeds, bench.reference.outputs(feeds), bench.right.run(feeds, profile))
        except HarnessError:
            continue
        room -= sum(array.size for array in met.right.values())
        found.append(met)
        if room < 0:
            break
    return found


def _feeds(bench: Bench) -> Iterator[tuple[int, Tensors]]:
    for task in tasks_of(bench.spec, bench.feeds, "normal"):
        yield from ((task.profile, feeds) for feeds in task.feeds)
    for index, profile in enumerate(bench.spec.profiles):
        for k, shapes in enumerate(shapes_of(profile)):
            yield index, bench.feeds.feed(shapes, k)
    opt = bench.opt
    for start in range(0, min(bench.feeds.samples, SAMPLES), bench.feeds.rows(opt)):
        yield 0, bench.feeds.feed(opt, start)


def shapes_of(profile: Profile, count: int = SHAPES) -> list[dict[str, Shape]]:
    """Shapes within a profile, the size of each of its axes drawn for itself."""
    rng, found = np.random.default_rng(7), []
    for k in range(count * 4):
        sizes = {
            n: _size(a.min, a.opt, a.max, a.multiple_of, rng, k % 2 == 1) for n, a in profile.ranges.items()
        }
        shapes = profile.shapes_at(sizes)
        if shapes not in found and profile.holds(shapes):
            found.append(shapes)
    return found[:count]


def _size(low: int, opt: int, high: int, multiple: int, rng: np.random.Generator, special: bool) -> int:
    """A size that kernels may treat apart (an end, beside one, even, a multiple of 8 or 16), or any."""
    apart = [low, high, high - multiple, opt + multiple, 8, 16, 32, 2 * multiple]
    size = int(rng.choice(apart)) if special else int(rng.integers(low, high + 1))
    return int(np.clip(size // multiple * multiple or multiple, low, high))
