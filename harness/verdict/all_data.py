"""All that runs through an engine is held against the reference, some samples at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.backends.base import Tensors
from harness.comparison.explain import problems
from harness.comparison.severity import severity
from harness.data.batches import Outputs
from harness.data.shape_classes import Coverage
from harness.data.shapes import Case
from harness.verdict.question import Question
from harness.verdict.tasks import SAMPLES_PER_SHAPE, Task


@dataclass(frozen=True)
class Seen:
    """How many samples were compared, of how many, and how many lie in groups that fail.

    `mre` is the largest of any group; `worst` the group that fails most, `problem` the first thing wrong.
    """

    samples: int
    of: int
    failed: int = 0
    mre: float = 0.0
    worst: Task | None = None
    problem: str = ""

    def data(self) -> dict[str, Any]:
        """For the record of the accuracy suite."""
        start = None if self.worst is None else self.worst.start
        counts = {"samples": self.samples, "of": self.of, "failed": self.failed}
        return {**counts, "mre": self.mre, "worst": start}

    def __str__(self) -> str:
        text = f"{self.samples} of {self.of} samples compared"
        if self.worst is None:
            return text
        where = f"worst from sample {self.worst.start} on"
        return f"{text}, {self.failed} in groups that fail; {where}: {self.problem}"


class Watch:
    """Runs the engine of a question on samples, from the first on, and compares what it gives.

    `expected` are the reference's outputs, feed by feed.  Samples are judged in groups as large as those that
    every shape is judged on, and dropped.  A loop runs free here, so that its steps are not the reference's:
    the suite for loops compares them.
    """

    def __init__(self, question: Question, samples: int, expected: Iterable[Outputs]) -> None:
        self._question, self._seen, self._severity = question, Seen(0, samples), 0.0
        self._expected = iter(expected)
        self._waiting: list[tuple[Tensors, Outputs, Outputs]] = []

    def run(self, feed: Tensors) -> Outputs:
        """Outputs of the engine for the next samples.  Raises RunError, DataError."""
        outputs = self._question.engine.run(feed, 0)
        if self._question.spec.loop is not None:
            return outputs
        self._waiting.append((feed, outputs, next(self._expected)))
        if len(self._waiting) * self._question.rows([feed]) >= SAMPLES_PER_SHAPE:
            self._settle()
        return outputs

    def finish(self) -> Seen:
        """What was seen; the last group may be smaller."""
        self._settle()
        return self._seen

    def _settle(self) -> None:
        if not self._waiting:
            return
        feeds, actual, expected = zip(*self._waiting, strict=True)
        self._waiting = []
        rows = self._question.rows(feeds)
        found, before = self._question.compared(actual, expected, rows), self._seen
        count = min(len(feeds) * rows, before.of - before.samples)
        bad, how = not found.quality, severity(found)
        worst, problem = before.worst, before.problem
        if bad and (worst is None or how > self._severity):
            worst, problem, self._severity = self._task(before.samples, feeds, rows), problems(found)[0], how
        self._seen = Seen(
            before.samples + count,
            before.of,
            before.failed + bad * count,
            max(before.mre, found.mre, key=lambda mre: float("inf") if mre != mre else mre),
            worst,
            problem,
        )

    def _task(self, start: int, feeds: tuple[Tensors, ...], rows: int) -> Task:
        shapes = {name: array.shape for name, array in feeds[0].items()}
        return Task(0, Case("opt", shapes), feeds, len(feeds) * rows, Coverage(1, 0), start)
