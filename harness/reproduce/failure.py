"""One failure of one case, on one set of feeds: what `trt-harness bundle` packs and minimises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from numpy.typing import NDArray

from harness.comparison.explain import explain
from harness.comparison.result import OutputsComparison
from harness.engines.controls import kept_state, oracle, quantized_only, without_tf32
from harness.engines.engine import BuiltEngine
from harness.errors import BackendUnavailableError, UsageError
from harness.precision import Precision, PrecisionPlan
from harness.records import fails
from harness.spec.model_spec import BuildSpec
from harness.spec.terms import Terms
from harness.verdict.tasks import Task
from harness.verdict.triage import Triage
from harness.verdict.validate import (
    Answer,
    Question,
    answer,
    emulated_outputs,
    judged,
    rows_of,
    runnable,
)

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
    if why := subject.backend.can_run():
        raise BackendUnavailableError(f"{subject.backend.name} cannot run here: {why}")
    built = subject.engine(precision)
    with ExitStack() as stack:
        question = _question(subject, precision, built, stack, strict)
        task, found = _worst(question, passing)
        return _failure(subject, question, built, task, found)


def _question(
    subject: Subject, precision: Precision, built: BuiltEngine, stack: ExitStack, strict: bool
) -> Question:
    emulated = subject.backend.info().provider == "CPUExecutionProvider"
    return Question(
        subject.spec,
        subject.terms(precision, strict=strict),
        subject.feeds,
        stack.enter_context(built.open("verified")),
        subject.reference(),
        None if emulated else subject.emulation(precision).outputs,
        stack.enter_context(without_tf32(subject)),
        stack.enter_context(quantized_only(subject, precision)),
        kept_state(subject, precision),
        stack.enter_context(oracle(subject, precision)),
    )


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
    runs = [_run(question, task.profile, feeds) for feeds in task.feeds]
    index = max(range(len(runs)), key=lambda k: (not runs[k][2].quality, _size(runs[k][2])))
    expected, actual, found = runs[index]
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
        expected,
        actual,
        found,
        whole.triage,
        explain(
            found, f"{label} {whole.place}", context=[whole.triage.advice] if whole.triage.advice else []
        ),
        len(subject.normalised.graph),
    )


def _run(question: Question, profile: int, feeds: Arrays) -> tuple[Arrays, Arrays, OutputsComparison]:
    expected, actual = question.reference.outputs(feeds), question.engine.run(feeds, profile)
    emulated, rows = emulated_outputs(question, [feeds]), rows_of(question, [feeds])
    return expected, actual, judged(question, [actual], [expected], emulated, rows)


def _size(found: OutputsComparison) -> float:
    return math.inf if math.isnan(found.mre) else found.mre


def failing(records: Sequence[Any]) -> list[str]:
    """The ids of the cases whose outputs or layers failed, in the order of the records."""
    bad = [record for record in records if record.fails and record.kind in ("outputs", "layers")]
    return list(dict.fromkeys(f"{record.model}-{record.precision}" for record in bad))
