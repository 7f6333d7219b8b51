"""What the suites say of an engine: their own code, without pytest.

The layers suite is left out: it never fails where the outputs pass (see its docstring).  Building and caching
are right here by construction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from benchmarks.spoil.bench import Bench
from benchmarks.spoil.engines import Spoilt
from harness.backends.base import Engine
from harness.loops.judge import answer_loop
from harness.loops.properties import PROPERTIES as OF_LOOPS
from harness.loops.properties import check as check_loop
from harness.loops.question import loop_question
from harness.records import fails
from harness.spec.model_spec import Shape
from harness.tasks.accuracy import Accuracy
from harness.verdict.metamorphic import PROPERTIES, Trial, check
from harness.verdict.question import Question
from harness.verdict.validate import answers


@dataclass(frozen=True)
class Finding:
    """`failed`: suite and reason of the first failure, empty where everything passes; `told`: warnings."""

    failed: str = ""
    told: tuple[str, ...] = ()


def judge(bench: Bench, engine: Spoilt, *, whole: bool = False) -> Finding:
    """What the suites say; they stop at the first failure unless the `whole` is asked for."""
    told: list[str] = []
    failures = _failures(bench, engine, told)
    failed = list(failures) if whole else [next(failures, "")]
    return Finding(failed[0] if failed else "", tuple(dict.fromkeys(told)))


def _failures(bench: Bench, engine: Spoilt, told: list[str]) -> Iterator[str]:
    yield from _outputs(bench, engine, told)
    yield from _metamorphic(bench, engine)
    yield from _accuracy(bench, engine)
    yield from _loop(bench, engine, told)


def question_of(bench: Bench, engine: Engine) -> Question:
    """What test_outputs.py asks; the right engine explains what the precision costs, as an emulation does."""
    return Question(
        bench.spec,
        bench.spec.terms(bench.precision),
        bench.feeds,
        engine,
        bench.reference,  # type: ignore[arg-type]
        emulation=bench.right.run,
    )


def _outputs(bench: Bench, engine: Spoilt, told: list[str]) -> Iterator[str]:
    for answer in answers(question_of(bench, engine)):
        told += answer.triage.warnings
        if fails(answer.triage.verdict):
            yield f"outputs: {answer.triage.verdict} at {answer.place}"


def _metamorphic(bench: Bench, engine: Spoilt) -> Iterator[str]:
    declared = {exception.property for exception in bench.spec.exceptions}
    for name in (name for name in PROPERTIES if name not in declared):
        for trial in trials_of(bench, engine):
            if not check(name, trial).holds:
                yield f"metamorphic: {name}"


def trials_of(bench: Bench, engine: Spoilt) -> Iterator[Trial]:
    """A trial for each profile.  What is wrong with one build is wrong with every other one."""

    def static(shapes: Mapping[str, Shape]) -> AbstractContextManager[Engine]:
        return engine.fresh()

    terms = bench.spec.terms(bench.precision)
    for index in range(len(bench.spec.profiles)):
        others: Any = (engine.fresh, engine.fresh, static)
        yield Trial(bench.spec, terms, bench.feeds, index, engine, *others)


def _accuracy(bench: Bench, engine: Spoilt) -> Iterator[str]:
    wanted, task = bench.spec.task, bench.task
    if wanted is None or task is None:
        return
    score = bench.score(engine)
    found = Accuracy(wanted.metric, bench.reference_score, score, wanted.allowed_drop, len(task.labels))
    if not found.passes:
        yield f"accuracy: {wanted.metric} falls by {found.drop:.4f}"


def _loop(bench: Bench, engine: Spoilt, told: list[str]) -> Iterator[str]:
    """What test_loop.py says, where the spec has a loop."""
    if bench.spec.loop is None:
        return
    declared = {exception.property for exception in bench.spec.exceptions}
    with loop_question(bench.subject, bench.precision, engine.fresh(), emulated=False) as asked:
        triage = answer_loop(asked).triage
        told += triage.warnings
        if fails(triage.verdict):
            yield f"loop: {triage.verdict}"
        for name in (name for name in OF_LOOPS if name not in declared):
            if not check_loop(name, asked).holds:
                yield f"loop: {name}"
