"""The verdict on a loop, by the one table: what decides, and what only tells.

The limit holds for the first step forced and for the last step free (a spec's `growth` lets it grow there).
Steps are rows: over all steps forced the mean error is within the limit, and no single step, forced or free,
exceeds what one row may.  A token that differs though the precision does not explain it fails as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.comparison.explain import explain as explain_comparison
from harness.comparison.explain import problems
from harness.loops.growth import Growth, fit
from harness.loops.run import Decision, LoopQuestion, Track, run_sequence, worst_by_step
from harness.loops.run import Sequence as Ran
from harness.loops.tokens import Flip
from harness.records import fails, worst
from harness.verdict.triage import SEARCH, SUSPECT, Triage, verdict_of

SHOWN = 8
"""How many flips a message lists."""


@dataclass(frozen=True)
class LoopAnswer:
    """What a loop showed, over all its sequences."""

    question: LoopQuestion
    ran: tuple[Ran, ...]

    @cached_property
    def deciding(self) -> tuple[Decision, ...]:
        """The steps that decide, the first ones first."""
        limit = self.question.terms.tolerance.limit
        found = [d for one in self.ran for track in (one.forced, one.free) for d in _deciding(track, limit)]
        return tuple(sorted(found, key=lambda d: (d.step, d.mode)))

    @property
    def failed(self) -> tuple[Decision, ...]:
        """Those that are not good enough."""
        return tuple(one for one in self.deciding if not one.found.quality)

    @property
    def flips(self) -> tuple[tuple[int, Flip], ...]:
        """All tokens that differ, with the number of their sequence."""
        return tuple((one.number, flip) for one in self.ran for flip in one.flips)

    @property
    def wrong(self) -> tuple[tuple[int, Flip], ...]:
        """Those that are no ties."""
        return tuple(pair for pair in self.flips if not pair[1].tie)

    @cached_property
    def growth(self) -> Growth:
        """How the error of the loop grows where it runs free."""
        return fit(self.errors("free"))

    @cached_property
    def triage(self) -> Triage:
        """The verdict, with its warnings and what to do next."""
        emulated, tf32 = self.question.emulation is None, self.question.tf32
        each = [verdict_of(d.found, tf32=tf32, emulated=emulated) for d in self.deciding]
        if self.wrong and not any(fails(one.verdict) for one in each):
            each.append(self._of_tokens())
        verdict = worst(one.verdict for one in each)
        decided = next(one for one in each if one.verdict == verdict)
        said = [warning for one in each for warning in one.warnings]
        return Triage(decided.verdict, (*_one_each(said), *self._warnings()), decided.advice)

    def errors(self, mode: str) -> list[float]:
        """The largest error of each step of a mode, over outputs and sequences."""
        return worst_by_step([getattr(one, mode).mres for one in self.ran])

    def first_over(self, mode: str) -> Decision | None:
        """The first step of a mode above the limit."""
        found = (getattr(one, mode).decided("limit") for one in self.ran)
        return min((d for d in found if d is not None), key=lambda d: d.step, default=None)

    def explain(self, label: str, reproduce: str) -> str:
        """What failed first in full, the others in a line each."""
        context = [*self._context(), self.triage.advice]
        if not self.failed:
            told = [f"{label} loop: {self.triage.verdict}", *(f"  {line}" for line in context if line)]
            return "\n".join([*told, f"  reproduce: {reproduce}"])
        first, *others = self.failed
        context += [f"{place(one)}: {problems(one.found)[0]}" for one in others]
        where = f"{label} loop, {place(first)} of {self.question.feeding.loop.steps}"
        return explain_comparison(
            first.found, where, context=[line for line in context if line], reproduce=reproduce
        )

    def data(self) -> dict[str, Any]:
        """The record's `data`, as reports/README.md describes it."""
        loop, tolerance = self.question.feeding.loop, self.question.terms.tolerance
        return {
            "steps": loop.steps,
            "sequences": len(self.ran),
            "limit": tolerance.limit,
            "expected": tolerance.expected,
            "growth_allowed": loop.growth,
            "mre": max(self.errors("free")[-1:], default=0.0),
            "forced": self.errors("forced"),
            "free": self.errors("free"),
            "outputs": {name: self._by_step(name) for name in self.ran[0].forced.errors[0]},
            "first_over": {mode: _told(self.first_over(mode)) for mode in ("forced", "free")},
            "first_non_finite": self._non_finite(),
            "growth": {"kind": self.growth.kind, "per_step": self.growth.per_step},
            "tokens": self._tokens(),
            "advice": self.triage.advice,
        }

    def _of_tokens(self) -> Triage:
        """Where errors are small enough and tokens differ all the same."""
        if self.question.emulation is None or self.question.terms.precision.quantized:
            return Triage("precision-limited", advice=SEARCH.format(self.question.terms.precision))
        return Triage("engine-suspect", advice=SUSPECT)

    def _warnings(self) -> Iterator[str]:
        for mode in ("forced", "free"):
            over = self.first_over(mode)
            if over is not None and over not in self.failed:
                found, limit = over.found.mre, over.found.tolerance.limit
                yield f"loop, {place(over)}: mre {found:.1e} is above the limit {limit:.1e} of all together"
        if self.growth.kind == "exponential":
            yield f"the error grows exponentially, {self.growth.per_step:.3g} times a step: longer loops fail"

    def _context(self) -> Iterator[str]:
        per_step = f", {self.growth.per_step:.1e} a step" if self.growth.per_step is not None else ""
        free = self.errors("free")
        forced, last = max(self.errors("forced")), f"{free[-1]:.1e} at step {len(free)}"
        yield f"forced: mre up to {forced:.1e}; free: {free[0]:.1e} at step 1, {last}"
        yield f"growth of what accumulates: {self.growth.kind}{per_step}"
        for mode in ("forced", "free"):
            if (over := self.first_over(mode)) is not None:
                yield f"first {mode} step over tolerance: {over.step}, output {_output(over)!r}"
        if (lost := self._non_finite()) is not None:
            yield f"not finite from step {lost['step']} on ({lost['mode']}), output {lost['output']!r}"
        for number, flip in self.wrong[:SHOWN]:
            yield (
                f"sequence {number}, step {flip.step}: token {flip.got}, expected {flip.expected}, "
                f"which the reference prefers by {flip.margin:.2g}"
            )

    def _by_step(self, name: str) -> Mapping[str, list[float]]:
        return {
            mode: worst_by_step([[e[name].mre for e in getattr(one, mode).errors] for one in self.ran])
            for mode in ("forced", "free")
        }

    def _non_finite(self) -> dict[str, Any] | None:
        tracks = [t for one in self.ran for t in (one.forced, one.free) if t.non_finite is not None]
        first = min(tracks, key=lambda track: track.non_finite or (0, ""), default=None)
        if first is None or first.non_finite is None:
            return None
        return {"mode": first.mode, "step": first.non_finite[0], "output": first.non_finite[1]}

    def _tokens(self) -> dict[str, Any] | None:
        if self.question.feeding.loop.tokens is None:
            return None
        told = [{"sequence": n, **vars(flip)} for n, flip in self.flips]
        wrong = min((flip.step for _, flip in self.wrong), default=None)
        return {
            "compared": sum(len(one.expected) for one in self.ran),
            "ties": sum(flip.tie for _, flip in self.flips),
            "wrong": len(self.wrong),
            "first_wrong": wrong,
            "flips": told,
            "got": [list(one.got) for one in self.ran],
            "expected": [list(one.expected) for one in self.ran],
        }


def answer_loop(question: LoopQuestion) -> LoopAnswer:
    """Run all sequences of a loop.  Raises DataError, RunError, each naming the step."""
    sequences: Sequence[int] = range(question.feeding.loop.sequences)
    return LoopAnswer(question, tuple(run_sequence(question, number) for number in sequences))


def place(one: Decision) -> str:
    """`free, step 40`."""
    return f"{one.mode}, step {one.step}" + (f" of sequence {one.sequence}" if one.sequence else "")


def _deciding(track: Track, limit: float) -> Iterator[Decision]:
    """The decisions of a track that decide, in the order of steps."""
    wanted = {"first", "last", "row"}
    if track.mode == "forced" and not track.mean <= limit:
        wanted.add("limit")
    seen: set[int] = set()
    for one in sorted(track.decisions, key=lambda d: d.step):
        if one.why in wanted and one.step not in seen:
            seen.add(one.step)
            yield one


def _one_each(warnings: Sequence[str]) -> list[str]:
    """The last warning of each output: later steps say the same with other figures."""
    return list({warning.partition(": ")[0]: warning for warning in warnings}.values())


def _told(over: Decision | None) -> dict[str, Any] | None:
    if over is None:
        return None
    return {"step": over.step, "sequence": over.sequence, "output": _output(over), "mre": over.found.mre}


def _output(over: Decision) -> str:
    """The output that is over tolerance, or the worst where only a name is missing."""
    names = [one.name for one in over.found.comparisons if not one.quality]
    return names[0] if names else next((one.name for one in over.found.comparisons), "")
