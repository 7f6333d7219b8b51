"""An engine's outputs against the reference at the shapes of a spec's profiles, on the spec's data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Engine, Tensors
from harness.cases import Case as ShapeCase
from harness.cases import cases_of
from harness.compare import compare_outputs
from harness.comparison import OutputsComparison
from harness.inputs import Feeds
from harness.precision import Precision, Tolerance
from harness.spec import ModelSpec, Shape
from harness.triage import Triage, split_error, verdict_of

if TYPE_CHECKING:
    from harness.reference import Floor, Reference

SAMPLES_PER_SHAPE = 8
"""Samples that every shape is judged on at least, if the data has so many; one feed may hold more."""

Run = Callable[[Tensors], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Question:
    """What is asked of every shape.

    `emulation` gives the outputs of the same lowered model as ONNX Runtime's CPU provider emulates it; it is
    None where the engine under test is that emulation.
    """

    spec: ModelSpec
    precision: Precision
    tolerance: Tolerance
    feeds: Feeds
    engine: Engine
    reference: Reference
    emulation: Run | None = None


@dataclass(frozen=True)
class Answer:
    """What was found at one shape on `samples` samples; `floor` is the reference's own error by output."""

    profile: str
    label: str
    shapes: Mapping[str, Shape]
    samples: int
    found: OutputsComparison
    triage: Triage
    floor: Mapping[str, Floor]

    @property
    def place(self) -> str:
        """`profile 'default' max, x=64x30`."""
        sizes = ", ".join(f"{name}={'x'.join(map(str, s)) or 'scalar'}" for name, s in self.shapes.items())
        return f"profile '{self.profile}' {self.label}, {sizes}"

    def data(self) -> dict[str, Any]:
        """The record's `data`, as reports/README.md describes it."""
        return {
            "shape": self.label,
            "samples": self.samples,
            "mre": self.found.mre,
            "limit": self.found.tolerance.limit,
            "expected": self.found.tolerance.expected,
            "floor": {name: asdict(floor) for name, floor in self.floor.items()},
            "advice": self.triage.advice,
            "split": vars(self.triage.split) if self.triage.split else None,
            "comparison": self.found.to_json(),
        }


def answers(question: Question) -> Iterator[Answer]:
    """The answer for every shape of every profile, each on samples that the shapes before did not take."""
    start = 0
    for index, profile in enumerate(question.spec.profiles):
        for case in cases_of(profile):
            count = feeds_needed(question.feeds, case.shapes)
            rows = question.feeds.rows(case.shapes)
            feeds = [question.feeds.feed(case.shapes, start + k * rows) for k in range(count)]
            start += count * rows
            yield _answer(question, index, case, feeds, count * rows)


def feeds_needed(feeds: Feeds, shapes: Mapping[str, Shape]) -> int:
    """How many feeds of `shapes` make SAMPLES_PER_SHAPE samples, or all that there are."""
    return -(-min(SAMPLES_PER_SHAPE, feeds.samples) // feeds.rows(shapes))


def explain(label: str, answers: Sequence[Answer], reproduce: str) -> str:
    """One text for all shapes that fail: the first in full, the others in a line each, advice, command."""
    failed = [answer for answer in answers if answer.triage.verdict != "pass"]
    advice = dict.fromkeys(answer.triage.advice for answer in failed if answer.triage.advice)
    first = failed[0]
    own = max((floor.mre for floor in first.floor.values()), default=0.0)
    context = [f"the reference's own error: mre {own:.1e}"]
    context += [f"{answer.place}: {answer.found.problems[0]}" for answer in failed[1:]]
    verdicts = ", ".join(dict.fromkeys(answer.triage.verdict for answer in failed))
    return "\n".join(
        [
            f"{label}: {verdicts}; {len(failed)} of {len(answers)} shapes fail",
            first.found.explain(f"{label} {first.place}", context=[*context, *advice], reproduce=reproduce),
        ]
    )


def _answer(
    question: Question, profile: int, case: ShapeCase, feeds: Sequence[Tensors], samples: int
) -> Answer:
    expected = [question.reference.outputs(feed) for feed in feeds]
    actual = [question.engine.run(feed, profile) for feed in feeds]
    emulated = _emulated(question, feeds, expected)
    found = _compared(question, actual, expected, emulated)
    split = split_error(question.precision, found.mre, emulated.mre if emulated else found.mre)
    if emulated is None:
        found = _explained_by_itself(found)
    name = question.spec.profiles[profile].name
    tf32 = question.spec.build.tf32
    triage = verdict_of(found, tf32=tf32, split=split)
    return Answer(name, case.label, case.shapes, samples, found, triage, question.reference.floor(feeds[0]))


def _emulated(
    question: Question, feeds: Sequence[Tensors], expected: Sequence[Mapping[str, NDArray[Any]]]
) -> OutputsComparison | None:
    if question.emulation is None:
        return None
    return _compared(question, [question.emulation(feed) for feed in feeds], expected, None)


def _explained_by_itself(found: OutputsComparison) -> OutputsComparison:
    comparisons = tuple(replace(one, emulation=one) for one in found.comparisons)
    return replace(found, comparisons=comparisons)


def _compared(
    question: Question,
    actual: Sequence[Mapping[str, NDArray[Any]]],
    expected: Sequence[Mapping[str, NDArray[Any]]],
    emulated: OutputsComparison | None,
) -> OutputsComparison:
    return compare_outputs(
        stacked(actual),
        stacked(expected),
        question.tolerance,
        precision=question.precision,
        rules=question.spec.outputs,
        emulation=emulated,
    )


def stacked(
    outputs: Sequence[Mapping[str, NDArray[Any]]],
) -> Mapping[str, NDArray[Any]] | Sequence[Mapping[str, NDArray[Any]]]:
    """Outputs of several feeds as one, with a new first axis; as they are where names or shapes differ."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    kinds = [{name: (array.shape, array.dtype) for name, array in one.items()} for one in outputs]
    if any(kind != kinds[0] for kind in kinds):
        return outputs
    return {name: np.stack([one[name] for one in outputs]) for name in first}


def worst(answers: Sequence[Answer]) -> Answer:
    """The answer with the largest `mre`; one that is NaN counts as largest."""
    return max(answers, key=lambda answer: math.inf if math.isnan(answer.found.mre) else answer.found.mre)
