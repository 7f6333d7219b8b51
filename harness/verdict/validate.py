"""An engine's outputs against the reference at the shapes of a spec's profiles, on the spec's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from harness.comparison.explain import explain as explain_comparison
from harness.comparison.explain import problems, to_json
from harness.comparison.result import OutputsComparison
from harness.comparison.severity import severity
from harness.errors import DataError, RunError
from harness.records import fails
from harness.spec.model_spec import Shape
from harness.verdict.floors import OwnError
from harness.verdict.question import Question
from harness.verdict.second_opinion import Opinion, Recurrence
from harness.verdict.shown import Shown
from harness.verdict.tasks import Task, tasks_of
from harness.verdict.triage import Split, Triage

if TYPE_CHECKING:
    from harness.engines.reference import Floor


@dataclass(frozen=True)
class Answer:
    """What was found at one shape on `samples` samples.

    `floor` is the reference's own error by output; `without_tf32` the `mre` of the same engine without TF32,
    where that was asked; `recurrence` both ends of its bracket, where the model has recurrent nodes in 16
    bits; `opinion` what the oracle said, where it was asked; `own` the reference's own error in outputs that
    fail.
    """

    profile: str
    label: str
    shapes: Mapping[str, Shape]
    samples: int
    found: OutputsComparison
    triage: Triage
    floor: Mapping[str, Floor]
    without_tf32: float | None = None
    recurrence: Recurrence | None = None
    opinion: Opinion | None = None
    own: Mapping[str, OwnError] = field(default_factory=dict)
    task: Task | None = None

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
            "coverage": asdict(self.task.coverage) if self.task else None,
            "mre": self.found.mre if self.found.comparisons or self.found.faults else None,
            "limit": self.found.tolerance.limit,
            "expected": self.found.tolerance.expected,
            "floor": {name: asdict(floor) for name, floor in self.floor.items()},
            "advice": self.triage.advice,
            "split": self.triage.split.to_json() if self.triage.split else None,
            "without_tf32": self.without_tf32,
            "recurrence": self.recurrence.to_json() if self.recurrence else None,
            "oracle": self.opinion.to_json() if self.opinion else None,
            "own_error": {name: asdict(own) for name, own in self.own.items()},
            "comparison": to_json(self.found),
        }


@dataclass(frozen=True)
class Refused:
    """A shape that is not judged, because the reference itself does not run there, in its words."""

    profile: str
    shapes: Mapping[str, Shape]
    reason: str


def answers(question: Question, refused: list[Refused] | None = None) -> Iterator[Answer]:
    """The answer for every shape of every profile, each on samples that the shapes before did not take.

    Shapes that the model refuses where axes do not move together are added to `refused`.
    """
    return (answer(question, task) for task in runnable(question, refused))


def runnable(question: Question, refused: list[Refused] | None = None) -> Iterator[Task]:
    """What `answers` answers, in its order."""
    for task in tasks_of(question.spec, question.feeds, question.effort):
        reason = _refusal(question, task) if task.case.extra else ""
        if not reason:
            yield task
        elif refused is not None:
            refused.append(Refused(question.spec.profiles[task.profile].name, task.case.shapes, reason))


def _refusal(question: Question, task: Task) -> str:
    """Why the reference gives no outputs at a shape: axes may hang together in ways that no spec says."""
    try:
        question.reference.outputs(task.feeds[0])
    except (RunError, DataError) as error:
        return str(error)
    return ""


def explain(label: str, answers: Sequence[Answer], reproduce: str) -> str:
    """One text for all shapes that fail: the first in full, the others in a line each, advice, command."""
    failed = [answer for answer in answers if fails(answer.triage.verdict)]
    told = {answer.triage.verdict: answer.triage.advice for answer in reversed(failed)}
    advice = dict.fromkeys(text for text in reversed(told.values()) if text)
    first = failed[0]
    own = max((floor.mre for floor in first.floor.values()), default=0.0)
    context = [f"the reference's own error: mre {own:.1e}"]
    if first.triage.split is not None:
        context.append(split_words(first.triage.split))
    if first.recurrence is not None:
        context.append(first.recurrence.words())
    context += [f"{answer.place}: {problems(answer.found)[0]}" for answer in failed[1:]]
    verdicts = ", ".join(dict.fromkeys(answer.triage.verdict for answer in failed))
    return "\n".join(
        [
            f"{label}: {verdicts}; {len(failed)} of {len(answers)} shapes fail",
            explain_comparison(
                first.found, f"{label} {first.place}", context=[*context, *advice], reproduce=reproduce
            ),
        ]
    )


def split_words(split: Split) -> str:
    """Where an error comes from, in one line."""
    sources = {
        "quantization": "Q/DQ alone, emulated",
        "rounding": "what 16 bits add, emulated",
        "runtime": "the engine against its emulation",
    }
    known = {part: value for part in sources if (value := getattr(split, part)) is not None}
    listed = [f"{part} {value:.1e} ({sources[part]})" for part, value in known.items()]
    main = f"; most of it is {split.main}" if split.main and len(known) > 1 else ""
    return f"of the error, mre {split.total:.1e}: {', '.join(listed) or 'parts not measured'}{main}"


def answer(question: Question, task: Task) -> Answer:
    """What the engine shows at one shape.  Raises RunError."""
    shown = Shown.by(question, task.profile, task.feeds)
    return Answer(
        question.spec.profiles[task.profile].name,
        task.case.label,
        task.case.shapes,
        task.samples,
        shown.found,
        shown.triage,
        shown.floor,
        shown.without_tf32.mre if shown.without_tf32 else None,
        shown.recurrence,
        shown.opinion,
        shown.own,
        task.without_feeds(),
    )


def worst(answers: Sequence[Answer]) -> Answer:
    """The answer that is furthest off in any part; one that is NaN counts as furthest."""
    return max(answers, key=lambda answer: severity(answer.found))
