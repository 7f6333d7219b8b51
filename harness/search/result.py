"""What the FP32 search asks and answers: evaluators, rankings, budgets, steps and results, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kept = frozenset[str]
Stage = Literal["nothing kept", "prefix", "shrink", "proof"]


class Evaluator(Protocol):
    """One engine build and comparison, emulated or real."""

    @property
    def candidates(self) -> tuple[str, ...]:
        """Nodes that can be kept in FP32, in graph order."""

    @property
    def tolerance(self) -> float:
        """The largest mean relative error that passes."""

    def __call__(self, kept: Kept) -> float:
        """The mean relative error with exactly `kept` in FP32; infinite where outputs are not finite."""


@dataclass(frozen=True)
class Budget:
    """What a search may use: new evaluations, and seconds; None is without bound."""

    evaluations: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Step:
    """One new evaluation: its number, what the search was doing, nodes kept, and the error found."""

    number: int
    stage: Stage
    nodes: Kept
    mre: float

    @property
    def kept(self) -> int:
        """How many nodes were kept."""
        return len(self.nodes)


@dataclass(frozen=True)
class Point:
    """One point of the trade-off: so many nodes of the ranking kept, and the error that remains."""

    kept: int
    mre: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    `nodes`: a set that passes, in graph order; empty where none is needed or none was found (`passed`).
    `before`, `after`: `mre` with nothing kept and with `nodes` kept; None where not evaluated.
    `evaluations` found the set, `proof_evaluations` showed it minimal, `remembered` are those
    that an earlier search had made.  `curve`: prefixes of the ranking.
    `minimal`: without any one node it fails.  `diffuse`: no passing set of `SMALL` nodes or fewer was found.
    `unreachable`: even with every node kept it fails.  `interrupted`: what stopped it, if something did.
    """

    tolerance: float
    nodes: tuple[str, ...] = ()
    before: float | None = None
    after: float | None = None
    evaluations: int = 0
    proof_evaluations: int = 0
    remembered: int = 0
    curve: tuple[Point, ...] = ()
    minimal: bool = False
    diffuse: bool = False
    unreachable: bool = False
    interrupted: str = ""

    @property
    def passed(self) -> bool:
        """Whether `nodes` is known to pass."""
        return self.after is not None and self.after <= self.tolerance


@dataclass(frozen=True)
class Ranked:
    """Every candidate, suspects first; the first `certain` of them are those that overflow by themselves."""

    nodes: tuple[str, ...]
    certain: int = 0


def rank(scores: Mapping[str, float], candidates: Sequence[str]) -> Ranked:
    """Candidates by score, largest first, those without a score last; of equals the first in the graph."""
    nodes = sorted(candidates, key=lambda name: -scores.get(name, -1.0))
    return Ranked(tuple(nodes), sum(scores.get(name) == float("inf") for name in nodes))


Ranking = Callable[[], Ranked]
Progress = Callable[[Step], None]
