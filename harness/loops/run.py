"""Runs a loop on an engine in one pass over the reference: each step forced, and free.

*Forced*: every step is fed with the reference's state, so that its error is what this step creates.  *Free*:
it is fed with the engine's own, so that its error is what has accumulated.  A token that the engine chooses
otherwise is noted and put right: both go on from the reference's, or nothing after it could be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import EngineRun, Run, Tensors
from harness.comparison.compare import bounds, compare_outputs
from harness.comparison.result import OutputsComparison
from harness.errors import DataError, RunError
from harness.loops.feeding import Feeding, Step
from harness.loops.measure import StepError, largest, non_finite, step_errors
from harness.loops.tokens import Flip, argmax, chosen, flips
from harness.spec.terms import Terms

Array = NDArray[Any]
Mode = Literal["forced", "free"]


@dataclass(frozen=True)
class LoopQuestion:
    """What is asked of an engine: to run the loop of `feeding` as `reference` does, on `terms`.

    `emulation` runs the emulation of the same lowered model; None where the engine is that emulation.
    """

    feeding: Feeding
    terms: Terms
    reference: Run
    engine: EngineRun
    emulation: EngineRun | None = None
    choose: Callable[[Array], Array] = argmax
    tf32: bool = False

    def terms_at(self, mode: Mode, step: int) -> Terms:
        """The terms of a step: what runs free may grow by the spec's `growth`."""
        own = self.terms.tolerance
        factor = 1.0 + self.feeding.loop.growth * (step - 1) if mode == "free" else 1.0
        grown = replace(
            own,
            expected=own.expected * factor,
            limit=own.limit * factor,
            row=own.row and own.row * factor,
            element=own.element and own.element * factor,
        )
        return replace(self.terms, tolerance=grown)


@dataclass(frozen=True)
class Decision:
    """A step that was compared in full, and why: `first`, `last`, over the `limit`, over that of a `row`."""

    mode: Mode
    step: int
    sequence: int
    why: Literal["first", "last", "limit", "row"]
    found: OutputsComparison


@dataclass
class Track:
    """The errors of one mode by step, and the steps at which a bound was first exceeded."""

    mode: Mode
    errors: list[Mapping[str, StepError]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    non_finite: tuple[int, str] | None = None

    @property
    def mres(self) -> list[float]:
        """The largest mean relative error of each step."""
        return [largest(errors) for errors in self.errors]

    @property
    def mean(self) -> float:
        """The mean relative error over all steps, of the worst output."""
        names = self.errors[0] if self.errors else ()
        sums = {
            n: StepError(sum(e[n].difference for e in self.errors), sum(e[n].magnitude for e in self.errors))
            for n in names
        }
        return largest(sums)

    def decided(self, why: str) -> Decision | None:
        """The first decision of a kind."""
        return next((one for one in self.decisions if one.why == why), None)


@dataclass(frozen=True)
class Sequence:
    """What one loop gave: both tracks, and the tokens of row 0 of both sides at every step."""

    number: int
    steps: int
    forced: Track
    free: Track
    flips: tuple[Flip, ...] = ()
    got: tuple[int, ...] = ()
    expected: tuple[int, ...] = ()


def run_sequence(question: LoopQuestion, number: int = 0) -> Sequence:
    """Run all steps of one sequence.  Raises DataError, RunError, each naming the step."""
    return _Pass(question, number).run()


class _Pass:
    """One pass; `_own` holds what the engine, and the emulation, are fed when they run free."""

    def __init__(self, question: LoopQuestion, number: int) -> None:
        self._question, self._number = question, number
        self._forced, self._free = Track("forced"), Track("free")
        self._flips: list[Flip] = []
        self._got: list[int] = []
        self._expected: list[int] = []

    def run(self) -> Sequence:
        feeding = self._question.feeding
        step = feeding.first(self._number)
        own: dict[str, Step | None] = {"engine": step}
        if self._question.emulation is not None:
            own["emulation"] = step
        for number in range(1, feeding.loop.steps + 1):
            expected = self._reference(step)
            tokens = self._tokens(expected, step.number)
            forced = self._outputs(dict.fromkeys(own, step))
            # The first step is fed alike, so that running it twice would say nothing.
            free = forced if number == 1 else self._outputs(own)
            self._judge(self._forced, number, forced, expected)
            if "engine" in free:
                self._judge(self._free, number, free, expected)
                self._note_tokens(number, free["engine"], expected, tokens)
            if number < feeding.loop.steps:
                own = {side: self._after(own[side], free.get(side), tokens) for side in own}
                step = feeding.next(step, expected, tokens, self._number)
        return Sequence(
            self._number,
            feeding.loop.steps,
            self._forced,
            self._free,
            tuple(self._flips),
            tuple(self._got),
            tuple(self._expected),
        )

    def _reference(self, step: Step) -> Tensors:
        where = f"{self._question.feeding.label}: step {step.number}"
        with _at(where):
            found = self._question.reference(step.feeds)
        if (name := non_finite(found)) is not None:
            raise DataError(f"{where}: {name!r} of the FP32 reference is not finite: nothing to compare with")
        return found

    def _outputs(self, fed: Mapping[str, Step | None]) -> dict[str, Tensors]:
        """What each side gives for its step; a side whose own state broke off gives nothing."""
        runs = {"engine": self._question.engine, "emulation": self._question.emulation}
        found: dict[str, Tensors] = {}
        for side, step in fed.items():
            run = runs[side]
            if step is not None and run is not None:
                with _at(f"{self._question.feeding.label}: step {step.number}"):
                    found[side] = run(step.feeds, step.profile)
        return found

    def _after(self, step: Step | None, outputs: Tensors | None, tokens: Array | None) -> Step | None:
        """The next step of a side that runs free; None once its outputs are not finite, or no states."""
        if step is None or outputs is None or non_finite(outputs) is not None:
            return None
        try:
            return self._question.feeding.next(step, outputs, tokens, self._number)
        except (DataError, KeyError, ValueError):
            return None  # Its shapes are wrong, which the comparison of this step has told.

    def _judge(self, track: Track, number: int, got: Mapping[str, Tensors], expected: Tensors) -> None:
        terms = self._question.terms_at(track.mode, number)
        errors = step_errors(got["engine"], expected, terms)
        track.errors.append(errors)
        if track.non_finite is None and (name := non_finite(got["engine"])) is not None:
            track.non_finite = (number, name)
        mre, allowed = largest(errors), bounds(terms.tolerance, terms.precision)
        whys = {
            "first": track.mode == "forced" and number == 1,
            "last": track.mode == "free" and number == self._question.feeding.loop.steps,
            "limit": not mre <= allowed.mre,
            "row": not mre <= allowed.row,
        }
        due = [why for why, holds in whys.items() if holds and track.decided(why) is None]
        if due:
            found = self._compared(got, expected, terms)
            track.decisions += [Decision(track.mode, number, self._number, why, found) for why in due]  # type: ignore[arg-type]

    def _compared(self, got: Mapping[str, Tensors], expected: Tensors, terms: Terms) -> OutputsComparison:
        if self._question.emulation is None:
            return compare_outputs(got["engine"], expected, terms).explained_by_itself()
        known = compare_outputs(got["emulation"], expected, terms) if "emulation" in got else None
        return compare_outputs(got["engine"], expected, terms, emulation=known)

    def _tokens(self, outputs: Tensors, number: int) -> Array | None:
        tokens = self._question.feeding.loop.tokens
        if tokens is None:
            return None
        where = f"{self._question.feeding.label}: step {number}"
        return chosen(self._question.choose, outputs[tokens.logits], where)

    def _note_tokens(self, number: int, got: Tensors, expected: Tensors, tokens: Array | None) -> None:
        spec = self._question.feeding.loop.tokens
        if spec is None or tokens is None or got[spec.logits].shape != expected[spec.logits].shape:
            return
        ours = self._tokens(got, number)
        assert ours is not None
        limit = self._question.terms.tolerance.limit
        self._flips += flips(number, ours, tokens, expected[spec.logits], limit)
        self._got.append(int(ours[0]))
        self._expected.append(int(tokens[0]))


class _at:  # noqa: N801 - reads as a preposition
    """A RunError out of this block names the step, once."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RunError) and not hasattr(error, "step"):
            error.step = self._where  # type: ignore[attr-defined]
            error.args = (f"{self._where}: {error.args[0]}", *error.args[1:])


def worst_by_step(tracks: list[list[float]]) -> list[float]:
    """The largest error of each step over several sequences; NaN counts as largest."""
    length = max(map(len, tracks), default=0)
    rows = [[track[k] for track in tracks if k < len(track)] for k in range(length)]
    return [math.nan if any(map(math.isnan, row)) else float(np.max(row)) for row in rows]
