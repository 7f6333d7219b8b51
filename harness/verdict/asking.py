"""The question that a verdict answers, put together outside the suites as their fixtures do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from harness.engines.controls import kept_state, oracle, quantized_only, without_tf32
from harness.engines.subject import Subject
from harness.errors import BackendUnavailableError
from harness.precision import Precision
from harness.verdict.question import Question


@contextmanager
def question(subject: Subject, precision: Precision, *, strict: bool = False) -> Iterator[Question]:
    """What the engine of `precision` is asked at every shape that the subject's options take.

    Raises BackendUnavailableError where engines build but do not run, BackendError.
    """
    if why := subject.backend.can_run():
        raise BackendUnavailableError(f"{subject.backend.name} cannot run here: {why}")
    emulated = subject.backend.info().provider == "CPUExecutionProvider"
    with ExitStack() as stack:
        yield Question(
            subject.spec,
            subject.terms(precision, strict=strict),
            subject.feeds,
            stack.enter_context(subject.engine(precision).open("verified")),
            subject.reference(),
            None if emulated else subject.emulation(precision).outputs,
            stack.enter_context(without_tf32(subject)),
            stack.enter_context(quantized_only(subject, precision)),
            kept_state(subject, precision),
            stack.enter_context(oracle(subject, precision)),
            subject.options.effort,
        )
