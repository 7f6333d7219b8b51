"""The FP32 search for one model and precision: on the suite's own data, verified on the real engine.

By default a set passes where the suite's whole rule does, and errors are those of `suite_error.severity`.  A
tolerance of the user's own is on `mre` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from harness.backends.runner import Opener, Tensors
from harness.comparison.compare import compare_outputs
from harness.comparison.emulated_error import Compared, EmulatedError, emulation_opener, open_cpu
from harness.comparison.result import OutputsComparison
from harness.comparison.suite_error import Judge, Outputs, SuiteError
from harness.data.batches import stacked
from harness.data.samples import Spool, describe
from harness.data.shapes import cases_of
from harness.engines.subject import Subject
from harness.errors import UsageError
from harness.graph.walk import all_nodes
from harness.loops.error import LoopError, shown_feeds
from harness.loops.judge import LoopAnswer, answer_loop
from harness.loops.question import loop_question
from harness.precision import Precision, PrecisionPlan
from harness.records import fails
from harness.search.evaluator import EmulationEvaluator
from harness.search.proof import spare_nodes
from harness.search.region import regions
from harness.search.result import Budget, SearchResult, Step
from harness.search.shrink import search
from harness.search.state import State
from harness.verdict.question import Question
from harness.verdict.tasks import feeds_needed
from harness.verdict.validate import Answer, answers

REDUCED = (Precision.FP16, Precision.BF16, Precision.INT8, Precision.INT8_FP16)


@dataclass(frozen=True)
class Request:
    """What is asked: the precision, a limit on `mre` instead of the suite's rule, and what it may cost."""

    precision: Precision
    tolerance: float | None = None
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True)
class Proposal:
    """What was found, where it lies, and what the real engine says of it.

    `plan` keeps the found nodes.  `candidates`: how many nodes could be kept.  `verified`: the engine's
    answers at every shape; empty where it cannot run here (`unverified` says why) or nothing passes.
    `trouble`: why the search could not be continued or cannot be later.  `by_mre`: `mre` alone decided.
    `spare`: nodes without any one of which the engine passes, too (see `fp32_proof`); None if not asked.
    `loop`: the engine's answer over many steps, where the spec has a loop that decided.
    """

    model: str
    precision: Precision
    plan: PrecisionPlan
    result: SearchResult
    candidates: int
    op_types: Mapping[str, int]
    regions: tuple[tuple[str, ...], ...]
    verified: tuple[Answer, ...] = ()
    unverified: str = ""
    trouble: str = ""
    by_mre: bool = False
    spare: tuple[str, ...] | None = None
    loop: LoopAnswer | None = None

    @property
    def found(self) -> bool:
        """Whether a small set passes, on the engine too where it can run."""
        loop = self.loop is None or not fails(self.loop.triage.verdict)
        return self.result.passed and not self.result.diffuse and not self.disagreeing and loop

    @property
    def disagreeing(self) -> tuple[Answer, ...]:
        """The shapes at which the engine does not pass, though the emulation does."""
        return tuple(answer for answer in self.verified if not self.agrees(answer))

    def agrees(self, answer: Answer) -> bool:
        """Whether the engine passes at a shape."""
        return answer.found.mre <= self.result.tolerance if self.by_mre else answer.found.quality


def propose(subject: Subject, asked: Request, tell: Callable[[Step], None] | None = None) -> Proposal:
    """Search the smallest set of FP32 nodes for `subject`; `tell` hears of each evaluation.

    An earlier search on the same model and data is continued.  Raises UsageError where there is nothing to
    search or no set reaches the tolerance, DataError without samples, BackendError from the engine.
    """
    if asked.precision not in REDUCED:
        raise UsageError(f"precision = {asked.precision}: must be one of {', '.join(REDUCED)}")
    with SuiteSamples(subject) as samples:
        found = _evaluator(subject, asked, samples)
        with found.error:
            _require_candidates(subject, found)
            state = _state(subject, found)
            result = _search(found, asked.budget, state, tell)
    if result.unreachable:
        least = min(point.mre for point in result.curve)
        raise UsageError(
            f"{_label(subject, found)}: no set of FP32 nodes reaches {found.tolerance:.1e}; with every node "
            f"kept that can be, the error is {least:.1e}"
        )
    return _proposal(subject, found, result, state.trouble)


def _label(subject: Subject, found: EmulationEvaluator) -> str:
    return f"{subject.spec.name}[{found.plan.precision}]"


class SuiteSamples(Spool):
    """Samples of every shape that the suite judges, each shape a case."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.cases: list[int] = []
        start = count = 0
        for profile in subject.spec.profiles:
            for shape in cases_of(profile):
                rows = subject.feeds.rows(shape.shapes)
                for _ in range(feeds_needed(subject.feeds, shape.shapes)):
                    self.append(subject.feeds.feed(shape.shapes, start))
                    self.cases.append(count)
                    start += rows
                count += 1

    def __enter__(self) -> SuiteSamples:
        return self


def _evaluator(subject: Subject, asked: Request, samples: SuiteSamples) -> EmulationEvaluator:
    spec, precision = subject.spec, asked.precision
    limit = asked.tolerance or spec.tolerance(precision).limit
    plan = PrecisionPlan(precision, (), spec.plan(precision).fp32_op_types)
    scales = {name: part.scale for name, part in spec.outputs.items() if part.scale is not None}
    compared = Compared(subject.output_names, tuple(samples.cases), scales)
    openers = open_cpu, emulation_opener(precision)
    error = _error(subject, asked, samples, openers, compared)
    # A loop ranks nodes on its own states too, which no sample of single steps has.
    ranked = Spool([*samples, *shown_feeds(subject)]) if isinstance(error, LoopError) else samples
    return EmulationEvaluator(subject.normalised, plan, ranked, limit, error, subject.ranges(plan))


def _error(
    subject: Subject,
    asked: Request,
    samples: SuiteSamples,
    openers: tuple[Opener, Opener],
    compared: Compared,
) -> EmulatedError:
    """What candidates are judged by: `mre` against a limit of the user's own, else the suite's rule.

    Where the spec has a loop, the suite's rule is that of the loop too.
    """
    if asked.tolerance:
        return EmulatedError(subject.normalised, samples, *openers, compared)
    judge = _judge(subject, asked.precision)
    if subject.spec.loop is not None:
        return LoopError(subject, asked.precision, samples, openers, compared, judge)
    return SuiteError(subject.normalised, samples, openers, compared, judge)


def _judge(subject: Subject, precision: Precision) -> Judge:
    """The suite's comparison."""
    terms = subject.spec.terms(precision)

    def judge(actual: Sequence[Outputs], expected: Sequence[Outputs], feed: Tensors) -> OutputsComparison:
        rows = subject.feeds.rows({name: array.shape for name, array in feed.items()})
        return compare_outputs(stacked(actual, rows, expected[0]), stacked(expected, rows), terms)

    return judge


def _require_candidates(subject: Subject, found: EmulationEvaluator) -> None:
    if not found.candidates:
        raise UsageError(
            f"{_label(subject, found)}: nothing to search: no node's precision is a plan's choice"
        )


def _state(subject: Subject, found: EmulationEvaluator) -> State:
    key = {
        **subject.cpu_key,
        "plan": found.plan.digest(),
        "ranges": dict(found.ranges) if found.ranges is not None else None,
        "samples": describe(found.feeds)[0],
        "outputs": list(found.error.names),
        "limit": found.tolerance if isinstance(found.error, SuiteError) else None,
        "loop": repr(subject.spec.loop) if isinstance(found.error, LoopError) else None,
    }
    return State.open(subject.cache.folder / "search", key, found.candidates)


def _search(
    found: EmulationEvaluator, budget: Budget, state: State, tell: Callable[[Step], None] | None
) -> SearchResult:
    def heard(step: Step) -> None:
        state.remember(step)
        if tell is not None:
            tell(step)

    return search(found, found.ranking, budget=budget, known=state.errors, progress=heard)


def _proposal(subject: Subject, found: EmulationEvaluator, result: SearchResult, trouble: str) -> Proposal:
    types = {node.name: node.op_type for node in all_nodes(subject.normalised.graph)}
    plan = found.keeping(result.nodes)
    unverified = subject.backend.can_run() or "" if result.passed else "no set passes"
    verified = () if unverified else tuple(_answers(subject, plan, found.tolerance))
    loop = None if unverified or not isinstance(found.error, LoopError) else _loop_answer(subject, plan)
    made = Proposal(
        subject.spec.name,
        plan.precision,
        plan,
        result,
        len(found.candidates),
        dict(Counter(types[name] for name in result.nodes).most_common()),
        regions(subject.normalised, result.nodes),
        verified,
        unverified,
        trouble,
        not isinstance(found.error, SuiteError),
        loop=loop,
    )
    if not verified or not made.found or not result.minimal:
        return made
    asked = partial(_answers, subject, limit=found.tolerance)
    return replace(made, spare=spare_nodes(subject, plan, asked, made.agrees))


def _loop_answer(subject: Subject, plan: PrecisionPlan) -> LoopAnswer:
    """What the suite would say of the engine of `plan` over many steps."""
    with (
        subject.engine(plan).open("verified") as engine,
        loop_question(subject, plan.precision, engine, emulated=True) as question,
    ):
        return answer_loop(question)


def _answers(subject: Subject, plan: PrecisionPlan, limit: float) -> Iterator[Answer]:
    """What the suite would say of the engine of `plan`, at every shape."""
    spec = subject.spec
    own = spec.terms(plan.precision)
    tolerance = replace(own.tolerance, expected=min(own.tolerance.expected, limit), limit=limit)
    with subject.engine(plan).open("verified") as engine:
        question = Question(
            spec, replace(own, tolerance=tolerance), subject.feeds, engine, subject.reference()
        )
        yield from answers(question)
