"""What an engine and its controls show at one shape, and the verdict on it; all is run and compared once.

An engine that is the emulation shows what its precision explains; at FP32 none is excused by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from harness.backends.base import Run, Tensors
from harness.comparison.result import OutputsComparison
from harness.data.batches import stacked
from harness.errors import RunError
from harness.precision import Precision
from harness.records import fails
from harness.verdict.advice import addressed
from harness.verdict.blind import blind_spots, random_words
from harness.verdict.floors import OwnError, own_errors
from harness.verdict.question import Question
from harness.verdict.second_opinion import Opinion, Recurrence
from harness.verdict.triage import Split, Triage, split_error, verdict_of

if TYPE_CHECKING:
    from harness.engines.reference import Floor

UNSURE = "the reference's own error is above the limit"


@dataclass(frozen=True)
class Shown:
    """Outputs of the engine (`actual`) and of the reference (`expected`) for each of `feeds`."""

    question: Question
    profile: int
    feeds: Sequence[Tensors]
    expected: Sequence[Tensors]
    actual: Sequence[Tensors]

    @classmethod
    def by(cls, question: Question, profile: int, feeds: Sequence[Tensors]) -> Shown:
        """What reference and engine answer.  Raises RunError."""
        expected = [question.reference.outputs(feed) for feed in feeds]
        return cls(question, profile, feeds, expected, [question.engine.run(feed, profile) for feed in feeds])

    @cached_property
    def rows(self) -> int:
        """Samples in each feed."""
        return self.question.rows(self.feeds)

    @cached_property
    def found(self) -> OutputsComparison:
        """The comparison of the engine's outputs, and whether the precision explains their error."""
        if self.emulation is not None:
            return self._compared(self.actual, self.emulation)
        found = self._compared(self.actual)
        whole = self.question.precision in (Precision.FP32, Precision.TF32)
        return found if whole else found.explained_by_itself()

    @cached_property
    def emulated(self) -> list[Tensors] | None:
        """What the emulation answers; None where the engine is the emulation."""
        return self._by(self.question.emulation)

    @cached_property
    def emulation(self) -> OutputsComparison | None:
        """The emulation against the reference."""
        return None if self.emulated is None else self._compared(self.emulated)

    @cached_property
    def without_tf32(self) -> OutputsComparison | None:
        """What the engine built without TF32 shows, if that can tell why this one fails."""
        question = self.question
        if self.found.quality or not question.tf32 or question.without_tf32 is None:
            return None
        return self._compared([question.without_tf32(feed, self.profile) for feed in self.feeds])

    @cached_property
    def split(self) -> Split:
        """The parts of the error: at FP32 all is the runtime's; the emulation as the engine adds nothing."""
        found, precision = self.found, self.question.precision
        if not (precision.half or precision.quantized):
            return split_error(precision, found.mre, None, found.mre, self._quantized)
        if self.emulated is None or self.emulation is None:
            return split_error(precision, found.mre, found.mre, 0.0, self._quantized)
        runtime = self.question.compared(self.actual, self.emulated, self.rows).mre
        return split_error(precision, found.mre, self.emulation.mre, runtime, self._quantized)

    @cached_property
    def own(self) -> Mapping[str, OwnError]:
        """The reference's own error in the outputs that fail, measured where any does.  Raises RunError."""
        if not self.found.failed:
            return {}
        each = (self.question.reference.readings(feed) for feed in self.feeds)
        readings = [self._stacked(_in_common(one)) for one in zip(*each, strict=True)]
        ours, theirs = self._stacked(self.actual), stacked(self.expected, self.rows)
        return own_errors(self.found, ours, theirs, readings, self.question.terms)

    @cached_property
    def recurrence(self) -> Recurrence | None:
        """Both ends of what kernels do with recurrent state; None where there is none."""
        kept = self._by(self.question.kept_state)
        return (
            None if kept is None else Recurrence((self.emulation or self.found).mre, self._compared(kept).mre)
        )

    @cached_property
    def opinion(self) -> Opinion | None:
        """What the oracle says of an engine that is to be accused at 16 bits; None if it is not asked."""
        if self._first.verdict != "engine-suspect" or self.question.oracle is None or self.emulation is None:
            return None
        try:
            oracle = self._compared([self.question.oracle(feed) for feed in self.feeds])
        except RunError as error:
            return Opinion(self.emulation.mre, unasked=str(error))
        explains = self._compared(self.actual, oracle).consistency
        return Opinion(self.emulation.mre, oracle.mre, explains)

    @cached_property
    def floor(self) -> Mapping[str, Floor]:
        """The reference's own error by output, on the first feed."""
        return self.question.reference.floor(self.feeds[0])

    @cached_property
    def triage(self) -> Triage:
        """The verdict with its advice, warnings and caveats."""
        triage, question = self._first, self.question
        if self.opinion is not None:
            triage = self.opinion.on(triage, question.precision)
        unsure = (UNSURE,) if self._unsure and not fails(triage.verdict) else ()
        triage = replace(triage, caveats=(*unsure, *self._caveats))
        return addressed(triage, question.spec, question.precision)

    @cached_property
    def _first(self) -> Triage:
        return verdict_of(
            self.found,
            tf32=self.question.tf32,
            without_tf32=self.without_tf32,
            split=self.split,
            emulated=self.emulated is None,
            own=self.own,
        )

    @cached_property
    def _quantized(self) -> float | None:
        """The error of INT8 alone, asked where the engine fails."""
        alone = None if self.found.quality else self._by(self.question.quantized_only)
        return None if alone is None else self._compared(alone).mre

    @property
    def _unsure(self) -> bool:
        """Whether the reference's own error is above the limit in an output that is judged relatively."""
        terms = self.question.terms
        rules = {name: terms.rule(name) for name in self.floor}
        judged = (name for name, rule in rules.items() if rule.compare == "numeric" and rule.scale is None)
        return any(self.floor[name].mre > terms.tolerance.limit for name in judged)

    @property
    def _caveats(self) -> tuple[str, ...]:
        """What the case's data cannot tell, and what was not compared, in a few words each."""
        spec, terms = self.question.spec, self.question.terms
        ignored = {name for name, rule in spec.outputs.items() if rule.compare == "ignore"}
        unruled = (name for name, rule in terms.rules.items() if rule.compare == "ignore")
        random = [name for name in unruled if name not in ignored]
        every = [name for name in self.expected[0] if name not in ignored]
        blind = blind_spots(stacked(self.expected, self.rows), terms, self.rows)
        return (*random_words(random, every), *blind)

    def _by(self, run: Run | None) -> list[Tensors] | None:
        return None if run is None else [run(feed) for feed in self.feeds]

    def _compared(
        self, outputs: Sequence[Tensors], emulation: OutputsComparison | None = None
    ) -> OutputsComparison:
        return self.question.compared(outputs, self.expected, self.rows, emulation)

    def _stacked(self, outputs: Sequence[Tensors]) -> Tensors | Sequence[Tensors]:
        return stacked(outputs, self.rows, self.expected[0])


def _in_common(outputs: Sequence[Tensors]) -> list[Tensors]:
    """The outputs that are there for every feed."""
    names = [name for name in outputs[0] if all(name in one for one in outputs)]
    return [{name: one[name] for name in names} for one in outputs]
