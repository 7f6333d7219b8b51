"""What is judged of a spec: the shapes of its profiles, each with feeds of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from harness.backends.base import Tensors
from harness.data.inputs import Feeds
from harness.data.shape_classes import Coverage, coverage
from harness.data.shapes import Case, cases_of
from harness.options import Effort
from harness.spec.model_spec import ModelSpec, Shape

SAMPLES_PER_SHAPE = 8
"""Samples that every shape is judged on at least, if the data has so many; one feed may hold more."""


@dataclass(frozen=True)
class Task:
    """One shape to judge: the index of its profile, and the feeds, of `samples` samples from `start` on.

    `coverage` is that of all shapes of the profile.
    """

    profile: int
    case: Case
    feeds: tuple[Tensors, ...]
    samples: int
    coverage: Coverage
    start: int = 0

    def without_feeds(self) -> Task:
        """The same with nothing held in memory; `fed` makes its feeds again."""
        return replace(self, feeds=())


def fed(task: Task, feeds: Feeds) -> tuple[Tensors, ...]:
    """The feeds of a task."""
    rows = feeds.rows(task.case.shapes)
    starts = range(task.start, task.start + task.samples, rows)
    return task.feeds or tuple(feeds.feed(task.case.shapes, start) for start in starts)


def tasks_of(spec: ModelSpec, feeds: Feeds, effort: Effort = "quick") -> Iterator[Task]:
    """Every shape of every profile with its feeds, each on samples that those before did not take."""
    start = 0
    for index, profile in enumerate(spec.profiles):
        cases = cases_of(profile, effort)
        covered = coverage(profile.ranges, [case.sizes for case in cases])
        for case in cases:
            count, rows = feeds_needed(feeds, case.shapes), feeds.rows(case.shapes)
            taken = tuple(feeds.feed(case.shapes, start + k * rows) for k in range(count))
            yield Task(index, case, taken, count * rows, covered, start)
            start += count * rows


def feeds_needed(feeds: Feeds, shapes: Mapping[str, Shape]) -> int:
    """How many feeds of `shapes` make SAMPLES_PER_SHAPE samples, or all that there are."""
    return -(-min(SAMPLES_PER_SHAPE, feeds.samples) // feeds.rows(shapes))
