"""An engine's outputs against the reference at the shapes of a spec's profiles, on the spec's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.backends.base import Engine, EngineRun, Run, Tensors
from harness.comparison.compare import compare_outputs
from harness.comparison.explain import explain as explain_comparison
from harness.comparison.explain import problems, to_json
from harness.comparison.result import OutputsComparison
from harness.comparison.severity import severity
from harness.data.batches import stacked
from harness.data.inputs import Feeds
from harness.errors import DataError, RunError
from harness.options import Effort
from harness.precision import Precision
from harness.records import fails
from harness.spec.model_spec import ModelSpec, Shape
from harness.spec.terms import Terms
from harness.verdict.advice import addressed
from harness.verdict.blind import blind_spots, random_words
from harness.verdict.floors import OwnError, own_errors
from harness.verdict.second_opinion import Opinion, Recurrence
from harness.verdict.tasks import Task, tasks_of
from harness.verdict.triage import Split, Triage, split_error, verdict_of

if TYPE_CHECKING:
    from harness.engines.reference import Floor, Reference


UNSURE = "the reference's own error is above the limit"


@dataclass(frozen=True)
class Question:
    """What is asked of every shape.

    `emulation` gives the outputs of the same lowered model as ONNX Runtime's CPU provider emulates it; it is
    None where the engine under test is that emulation.  Two more runs attribute the error of an engine that
    fails: `without_tf32` is the FP32 engine built without TF32, `quantized_only` under `int8+fp16` the
    emulation of INT8 alone.  `kept_state` is the emulation of recurrent nodes that keep their state in FP32,
    None where there are none; `oracle` runs the lowered model node by node, before an engine is accused.
    """

    spec: ModelSpec
    terms: Terms
    feeds: Feeds
    engine: Engine
    reference: Reference
    emulation: Run | None = None
    without_tf32: EngineRun | None = None
    quantized_only: Run | None = None
    kept_state: Run | None = None
    oracle: Run | None = None
    effort: Effort = "normal"

    @property
    def precision(self) -> Precision:
        """The precision that was asked for."""
        return self.terms.precision

    @property
    def tf32(self) -> bool:
        """Whether the engine computes in TF32."""
        return self.precision is Precision.TF32 or (self.precision is Precision.FP32 and self.spec.build.tf32)


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
    feeds, profile = task.feeds, task.profile
    expected = [question.reference.outputs(feed) for feed in feeds]
    actual = [question.engine.run(feed, profile) for feed in feeds]
    emulated = emulated_outputs(question, feeds)
    found = judged(question, actual, expected, emulated, rows_of(question, feeds))
    split = _split(question, found, actual, emulated, feeds, expected)
    without = compared_without_tf32(question, found, feeds, expected, profile)
    own = explained_by_reference(question, found, feeds, actual, expected)
    triage = verdict_of(
        found, tf32=question.tf32, without_tf32=without, split=split, emulated=emulated is None, own=own
    )
    opinion = _second_opinion(question, triage, actual, expected, feeds)
    if opinion is not None:
        triage = opinion.on(triage, question.precision)
    floor = question.reference.floor(feeds[0])
    unsure = (UNSURE,) if _unsure(question, floor) and not fails(triage.verdict) else ()
    blind = caveats(question, expected, rows_of(question, feeds))
    triage = replace(triage, caveats=(*unsure, *blind))
    return Answer(
        question.spec.profiles[profile].name,
        task.case.label,
        task.case.shapes,
        task.samples,
        found,
        addressed(triage, question.spec, question.precision),
        floor,
        without.mre if without else None,
        _recurrence(question, found, emulated, feeds, expected),
        opinion,
        own,
        task.without_feeds(),
    )


def _unsure(question: Question, floor: Mapping[str, Floor]) -> bool:
    """Whether the reference's own error is above the limit in an output that is judged relatively."""
    rules = {name: question.terms.rule(name) for name in floor}
    judged = (name for name, rule in rules.items() if rule.compare == "numeric" and rule.scale is None)
    return any(floor[name].mre > question.terms.tolerance.limit for name in judged)


def caveats(question: Question, expected: Sequence[Tensors], rows: int) -> tuple[str, ...]:
    """What the case's data cannot tell, and what was not compared, in a few words each."""
    ignored = {name for name, rule in question.spec.outputs.items() if rule.compare == "ignore"}
    rules = question.terms.rules.items()
    random = [name for name, rule in rules if rule.compare == "ignore" and name not in ignored]
    every = [name for name in expected[0] if name not in ignored]
    return (*random_words(random, every), *blind_spots(stacked(expected, rows), question.terms, rows))


def _second_opinion(
    question: Question,
    triage: Triage,
    actual: Sequence[Tensors],
    expected: Sequence[Tensors],
    feeds: Sequence[Tensors],
) -> Opinion | None:
    """What the oracle says of an engine that is to be accused at 16 bits; None if it is not asked."""
    if triage.verdict != "engine-suspect" or question.oracle is None or question.emulation is None:
        return None
    rows = rows_of(question, feeds)
    emulated = compared(question, [question.emulation(feed) for feed in feeds], expected, rows).mre
    try:
        shown = [question.oracle(feed) for feed in feeds]
    except RunError as error:
        return Opinion(emulated, unasked=str(error))
    explains = judged(question, actual, expected, shown, rows).consistency
    return Opinion(emulated, compared(question, shown, expected, rows).mre, explains)


def _recurrence(
    question: Question,
    found: OutputsComparison,
    emulated: Sequence[Tensors] | None,
    feeds: Sequence[Tensors],
    expected: Sequence[Tensors],
) -> Recurrence | None:
    if question.kept_state is None:
        return None
    rows = rows_of(question, feeds)
    kept = compared(question, [question.kept_state(feed) for feed in feeds], expected, rows).mre
    stepped = found.mre if emulated is None else compared(question, emulated, expected, rows).mre
    return Recurrence(stepped, kept)


def judged(
    question: Question,
    actual: Sequence[Tensors],
    expected: Sequence[Tensors],
    emulated: Sequence[Tensors] | None,
    rows: int = 1,
) -> OutputsComparison:
    """The comparison of an engine's outputs, and whether the precision explains their error.

    An engine that is the emulation shows what its precision explains; at FP32 none is excused by itself.
    """
    if emulated is None:
        found = compared(question, actual, expected, rows)
        whole = question.precision in (Precision.FP32, Precision.TF32)
        return found if whole else found.explained_by_itself()
    return compared(question, actual, expected, rows, compared(question, emulated, expected, rows))


def emulated_outputs(question: Question, feeds: Sequence[Tensors]) -> list[Tensors] | None:
    """What the emulation answers, kept on disk; None where the engine is the emulation."""
    return [question.emulation(feed) for feed in feeds] if question.emulation else None


def _split(
    question: Question,
    found: OutputsComparison,
    actual: Sequence[Tensors],
    emulated: Sequence[Tensors] | None,
    feeds: Sequence[Tensors],
    expected: Sequence[Tensors],
) -> Split:
    """The parts of the error: at FP32 all is the runtime's; an engine that is the emulation adds nothing."""
    explained: float | None
    rows = rows_of(question, feeds)
    if not (question.precision.half or question.precision.quantized):
        explained, runtime = None, found.mre
    elif emulated is None:
        explained, runtime = found.mre, 0.0
    else:
        explained = compared(question, emulated, expected, rows).mre
        runtime = compared(question, actual, emulated, rows).mre
    quantized = None
    if question.quantized_only is not None and not found.quality:
        alone = [question.quantized_only(feed) for feed in feeds]
        quantized = compared(question, alone, expected, rows).mre
    return split_error(question.precision, found.mre, explained, runtime, quantized)


def explained_by_reference(
    question: Question,
    found: OutputsComparison,
    feeds: Sequence[Tensors],
    actual: Sequence[Tensors],
    expected: Sequence[Tensors],
) -> Mapping[str, OwnError]:
    """The reference's own error in the outputs that fail, measured where any does.  Raises RunError."""
    if not found.failed:
        return {}
    rows, each = rows_of(question, feeds), (question.reference.readings(feed) for feed in feeds)
    readings = [stacked(_in_common(one), rows, expected[0]) for one in zip(*each, strict=True)]
    ours, theirs = stacked(actual, rows, expected[0]), stacked(expected, rows)
    return own_errors(found, ours, theirs, readings, question.terms)


def _in_common(outputs: Sequence[Tensors]) -> list[Tensors]:
    """The outputs that are there for every feed."""
    names = [name for name in outputs[0] if all(name in one for one in outputs)]
    return [{name: one[name] for name in names} for one in outputs]


def compared_without_tf32(
    question: Question,
    found: OutputsComparison,
    feeds: Sequence[Tensors],
    expected: Sequence[Tensors],
    profile: int,
) -> OutputsComparison | None:
    """What the engine built without TF32 shows, if that can tell why `found` fails."""
    if found.quality or not question.tf32 or question.without_tf32 is None:
        return None
    outputs = [question.without_tf32(feed, profile) for feed in feeds]
    return compared(question, outputs, expected, rows_of(question, feeds))


def rows_of(question: Question, feeds: Sequence[Tensors]) -> int:
    """How many samples each of `feeds` holds."""
    return question.feeds.rows({name: array.shape for name, array in feeds[0].items()})


def compared(
    question: Question,
    actual: Sequence[Tensors],
    expected: Sequence[Tensors],
    rows: int = 1,
    emulated: OutputsComparison | None = None,
) -> OutputsComparison:
    """The comparison of the outputs for several feeds of `rows` samples, by the rules of the question."""
    ours, theirs = stacked(actual, rows, expected[0]), stacked(expected, rows)
    return compare_outputs(ours, theirs, question.terms, emulation=emulated)


def worst(answers: Sequence[Answer]) -> Answer:
    """The answer that is furthest off in any part; one that is NaN counts as furthest."""
    return max(answers, key=lambda answer: severity(answer.found))
