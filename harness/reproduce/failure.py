"""One failure of one case, on one set of feeds: what `trt-harness bundle` packs and minimises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from numpy.typing import NDArray

from harness.comparison.explain import explain
from harness.comparison.result import OutputsComparison
from harness.engines.engine import BuiltEngine
from harness.errors import UsageError
from harness.precision import Precision, PrecisionPlan
from harness.records import fails
from harness.spec.model_spec import BuildSpec
from harness.spec.terms import Terms
from harness.verdict.asking import question
from harness.verdict.question import Question
from harness.verdict.shown import Shown
from harness.verdict.tasks import Task
from harness.verdict.triage import Triage
from harness.verdict.validate import Answer, answer, runnable

if TYPE_CHECKING:
    from harness.engines.subject import Subject

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Failure:
    """What ran, on what, and what came out.

    `normalised` is the FP32 model that made `expected`; `built` the engine that made `actual`.  `text` is the
    whole explanation.  `nodes` counts those of `normalised`; `of` those of the model it was cut from.
    """

    label: str
    place: str
    plan: PrecisionPlan
    terms: Terms
    options: BuildSpec
    normalised: ir.Model
    built: BuiltEngine
    feeds: Arrays
    expected: Arrays
    actual: Arrays
    found: OutputsComparison
    triage: Triage
    text: str
    of: int

    @property
    def nodes(self) -> int:
        """Nodes of the main graph."""
        return len(self.normalised.graph)


def find_failure(
    subject: Subject, precision: Precision, *, strict: bool = False, passing: bool = False
) -> Failure:
    """The worst failure of a case, on the worst single set of feeds that shows it.

    Raises UsageError where the case passes, unless `passing` takes its worst answer instead; BackendError.
    """
    with question(subject, precision, strict=strict) as asked:
        task, found = _worst(asked, passing)
        return _failure(subject, asked, subject.engine(precision), task, found)


def _worst(question: Question, passing: bool) -> tuple[Task, Answer]:
    found = [(task, answer(question, task)) for task in runnable(question)]
    failed = [pair for pair in found if fails(pair[1].triage.verdict)]
    if not failed and not passing:
        label = f"{question.spec.name}[{question.precision}]"
        raise UsageError(
            f"{label}: passes at all {len(found)} shapes, there is no failure to bundle (--passing does)"
        )
    return max(failed or found, key=lambda pair: _size(pair[1].found))


def _failure(subject: Subject, question: Question, built: BuiltEngine, task: Task, whole: Answer) -> Failure:
    runs = [Shown.by(question, task.profile, [feeds]) for feeds in task.feeds]
    index = max(range(len(runs)), key=lambda k: (not runs[k].found.quality, _size(runs[k].found)))
    shown = runs[index]
    label = f"{subject.spec.name}[{question.precision}]"
    return Failure(
        label,
        whole.place,
        subject.plan(question.precision),
        question.terms,
        subject.spec.build,
        subject.normalised,
        built,
        dict(task.feeds[index]),
        shown.expected[0],
        shown.actual[0],
        shown.found,
        whole.triage,
        explain(
            shown.found,
            f"{label} {whole.place}",
            context=[whole.triage.advice] if whole.triage.advice else [],
        ),
        len(subject.normalised.graph),
    )


def _size(found: OutputsComparison) -> float:
    return math.inf if math.isnan(found.mre) else found.mre


def failing(records: Sequence[Any]) -> list[str]:
    """The ids of the cases whose outputs or layers failed, in the order of the records."""
    bad = [record for record in records if record.fails and record.kind in ("outputs", "layers")]
    return list(dict.fromkeys(f"{record.model}-{record.precision}" for record in bad))
