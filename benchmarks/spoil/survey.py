"""Every spoilt engine of a bench judged, and every right variant."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.spoil.bench import Bench
from benchmarks.spoil.build import edited
from benchmarks.spoil.catalogue import Spoil
from benchmarks.spoil.edits import EDITS, SCALES
from benchmarks.spoil.engines import Call, Kept, Outputs, Spoilt
from benchmarks.spoil.harm import harm_of
from benchmarks.spoil.judge import judge
from benchmarks.spoil.variants import at_outputs, builds, built
from benchmarks.spoil.world import Met, world_of
from harness.errors import HarnessError

INVALID = (HarnessError, RuntimeError, ValueError)
"""What building or running refuses an edited model with; an error of the judgement itself is none of it."""


@dataclass(frozen=True)
class Result:
    """One engine: what it is, and what was found.

    `outcome`: "caught", "harmless", "harmful", "right" or "false alarm"; "nothing" where the fault changes
    nothing in this model, so that it is not counted.  `why`: the failure that caught it, or the rule of
    `harm`.  `told`: passes with a warning that the right engine does not have.
    """

    model: str
    precision: str
    name: str
    family: str
    outcome: str
    why: str = ""
    told: bool = False

    @property
    def key(self) -> str:
        """What names it in lists: `model[precision]: name`."""
        return f"{self.model}[{self.precision}]: {self.name}"


def right(call: Call) -> Outputs:
    """Spoils nothing."""
    return call.outputs


class Survey:
    """The judgements of one bench; the right engine is judged first, since nothing else means anything."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        found = judge(bench, bench.spoilt(right, 0.5), whole=True)
        self.broken, self._usual = found.failed, set(found.told)
        self._world: list[Met] | None = None

    @property
    def world(self) -> list[Met]:
        """What a deployment may meet."""
        if self._world is None:
            self._world = world_of(self.bench)
        return self._world

    def spoilt(self, spoil: Spoil, seed: int = 0) -> Result:
        """A fault at run time."""
        engine = self.bench.spoilt(spoil.spoiler, place(spoil.name, seed))
        return self._judged(spoil.name, spoil.family, engine)

    def edits(self, names: Sequence[str] = (*EDITS, *SCALES), seed: int = 0) -> Iterator[Result]:
        """Faults of the model; an edit that makes no valid model is `nothing`, with what refused it."""
        for name in names:
            at = place(name, seed)
            with ExitStack() as stack:
                try:
                    engine = stack.enter_context(edited(self.bench, name, at))
                    runs = engine is not None and self._runs(engine)
                except INVALID as error:
                    yield self._result(name, "edits", "nothing", f"no valid model: {error}")
                    continue
                if engine is not None and runs:
                    yield self._judged(name, "edits", self.bench.spoilt(right, at, engine))

    def variants(self, seed: int = 0) -> Iterator[Result]:
        """Right engines that differ in the last digits."""
        for name, spoiler in at_outputs(self.bench).items():
            yield self._right(name, self.bench.spoilt(spoiler, place(name, seed)))
        for name, edit in builds(self.bench).items():
            with built(self.bench, edit, place(name, seed)) as engine:
                if engine is not None:
                    yield self._right(name, self.bench.spoilt(right, 0.5, engine))

    def _runs(self, engine: Kept) -> bool:
        met = self.world[0]
        return bool(engine.run(met.feeds, met.profile))

    def _result(self, name: str, family: str, outcome: str, why: str = "") -> Result:
        return Result(self.bench.spec.name, str(self.bench.precision), name, family, outcome, why)

    def _judged(self, name: str, family: str, engine: Spoilt) -> Result:
        found = judge(self.bench, engine)
        result = self._result(name, family, "caught", found.failed)
        if found.failed:
            return result
        harm = harm_of(self.bench, engine, self.world)
        outcome = "harmful" if harm.harmful else "nothing" if harm.rule == "idle" else "harmless"
        why = f"{harm.rule}: {harm.how}" if harm.how else harm.rule
        return replace(result, outcome=outcome, why=why, told=bool(set(found.told) - self._usual))

    def _right(self, name: str, engine: Spoilt) -> Result:
        result = self._result(name, "variants", "right")
        if not self._differs(engine):
            return replace(result, outcome="nothing")
        found = judge(self.bench, engine, whole=True)
        return replace(result, outcome="false alarm", why=found.failed) if found.failed else result

    def _differs(self, engine: Spoilt) -> bool:
        """Whether a variant differs in any bit, dtype or layout from the right engine, on a few feeds."""
        engine = engine.fresh()
        return any(_differ(engine.run(met.feeds, met.profile), met) for met in self.world[:12])


def _differ(found: Outputs, met: Met) -> bool:
    pairs = [(array, met.right[name]) for name, array in found.items()]
    return any(a.dtype != b.dtype or a.strides != b.strides or not _same_bits(a, b) for a, b in pairs)


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(one.tobytes() == other.tobytes())


def place(name: str, seed: int) -> float:
    """A number in [0, 1) from which a fault takes its indices."""
    return zlib.crc32(f"{name} {seed}".encode()) / 2**32
