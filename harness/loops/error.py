"""The error of lowered models as the suite judges it where a spec has a loop: of one step, of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.base import Run
from harness.backends.runner import Opener, Tensors
from harness.comparison.emulated_error import Compared
from harness.comparison.severity import severity
from harness.comparison.suite_error import Judge, SuiteError
from harness.data.samples import Spool
from harness.engines.subject import Subject
from harness.loops.feeding import Feeding, Step
from harness.loops.judge import LoopAnswer, answer_loop
from harness.loops.question import chooser, loop_of, names_of, reference_of
from harness.loops.run import LoopQuestion
from harness.loops.tokens import chosen
from harness.precision import Precision

SHOWN = 8
"""Steps of each sequence that nodes are ranked on, spread over the loop."""


class LoopError(SuiteError):
    """Like `SuiteError`, and as bad as the loop is: what one step hides, many show."""

    def __init__(
        self,
        subject: Subject,
        precision: Precision,
        feeds: Iterable[Tensors],
        openers: tuple[Opener, Opener],
        compared: Compared,
        judge: Judge,
    ) -> None:
        super().__init__(subject.normalised, feeds, openers, compared, judge)
        self._feeding = feeding_of(subject)
        self._terms = subject.spec.terms(precision)
        self._choose = chooser(subject.spec, allow_code=subject.options.allow_code)
        self._read = names_of(self._feeding, subject.normalised)
        self._trace = Spool(outputs for _, outputs in walk_all(subject))

    def of(self, model: ir.Model) -> float:
        """The largest `severity` of any case and of the loop."""
        single = super().of(model)
        if not math.isfinite(single):
            return single
        with self._opener(model, self._read) as runner:

            def engine(feeds: Tensors, _profile: int) -> Tensors:
                return runner.run(feeds)

            asked = LoopQuestion(
                self._feeding, self._terms, Replay(iter(self._trace)), engine, choose=self._choose
            )
            return max(single, severity_of(answer_loop(asked)))

    def __exit__(self, *_: object) -> None:
        self._trace.__exit__()
        super().__exit__()


@dataclass
class Replay:
    """The reference of a loop whose outputs are known: a set a call, in the loop's own order."""

    outputs: Iterator[Tensors]

    def __call__(self, feeds: Tensors) -> Tensors:  # noqa: ARG002 - the reference goes its own way
        """The outputs of the next step."""
        return next(self.outputs)


def severity_of(answer: LoopAnswer) -> float:
    """The largest `severity` of the steps that decide, in units of the table's limit.

    At most the limit if and only if the loop passes.
    """
    limit = answer.question.terms.tolerance.limit
    each = [severity(one.found) * limit / one.found.tolerance.limit for one in answer.deciding]
    return max([*each, math.nextafter(limit, math.inf) if answer.wrong else 0.0])


def shown_feeds(subject: Subject) -> Iterator[Tensors]:
    """The feeds of some steps of the reference's loop, spread over it."""
    steps = loop_of(subject.spec).steps
    wanted = {1 + k * (steps - 1) // SHOWN for k in range(SHOWN)}
    return (step.feeds for step, _ in walk_all(subject) if step.number in wanted)


def feeding_of(subject: Subject) -> Feeding:
    """What the loop of a subject is fed."""
    return Feeding(subject.spec, loop_of(subject.spec), subject.feeds)


def walk_all(subject: Subject) -> Iterator[tuple[Step, Tensors]]:
    """Every step of the reference's loop and its outputs, one sequence after the other."""
    feeding, choose = feeding_of(subject), chooser(subject.spec, allow_code=subject.options.allow_code)
    with reference_of(subject, feeding) as run:
        for sequence in range(feeding.loop.sequences):
            yield from walk(feeding, lambda feeds: run(feeds, 0), choose, sequence)


def walk(
    feeding: Feeding, run: Run, choose: Callable[[NDArray[Any]], NDArray[Any]], sequence: int
) -> Iterator[tuple[Step, Tensors]]:
    """Every step of one sequence that runs free, and its outputs."""
    step = feeding.first(sequence)
    while True:
        outputs = run(step.feeds)
        yield step, outputs
        if step.number == feeding.loop.steps:
            return
        spec, where = feeding.loop.tokens, f"{feeding.label}: step {step.number}"
        tokens = None if spec is None else chosen(choose, outputs[spec.logits], where)
        step = feeding.next(step, outputs, tokens, sequence)
