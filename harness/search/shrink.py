"""The smallest set of nodes that must stay FP32, for any evaluator of such sets.

1. A ranking of the nodes by their own error puts suspects first.
2. Galloping, then binary search, finds the shortest prefix of the ranking that passes.
3. A handful is shrunk node by node, more by QuickXplain (Junker, AAAI 2004), to a set from which no node can
   be taken.  A prefix of more than `SMALL` nodes may still hide a small set behind suspects that were none:
   QuickXplain may spend `LONG` evaluations on it, twice as many if it comes near (twice `SMALL`).  If no set
   of `SMALL` nodes or fewer passed, the error is diffuse: the trade-off curve is the answer.
4. The set is shown minimal: without any one node it fails; a node that is not needed after all is dropped.

Evaluations are remembered by set, so that a search which is stopped continues where it was.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.search.result import (
    Budget,
    Evaluator,
    Kept,
    Point,
    Progress,
    Ranked,
    Ranking,
    SearchResult,
    Stage,
    Step,
)

SMALL = 32
HANDFUL = 8
LONG = 64


def search(
    evaluator: Evaluator,
    ranking: Ranking,
    *,
    budget: Budget | None = None,
    known: Mapping[Kept, float] | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """The smallest set found within `budget`; on Ctrl-C or at its end the best so far, `interrupted` set.

    `ranking` gives every candidate, suspects first; it is asked only if something must be kept.  `known` are
    errors from an earlier search with the same evaluator; `progress` hears of each new one.
    """
    run = _Run(evaluator, budget or Budget(), dict(known or {}), progress)
    try:
        run.go(ranking)
    except _OutOfBudgetError as error:
        run.interrupted = str(error)
    except KeyboardInterrupt:
        run.interrupted = "stopped by the user"
    return run.result()


class _OutOfBudgetError(Exception):
    """The budget is spent."""


class _NotSmallError(Exception):
    """A long prefix hides no small set that the evaluations for it find."""


@dataclass
class _Run:
    """One search: what is known, what it cost, and the best set so far."""

    evaluator: Evaluator
    budget: Budget
    errors: dict[Kept, float]
    progress: Progress | None
    asked: set[Kept] = field(default_factory=set)
    interrupted: str = ""
    stage: Stage = "nothing kept"
    best: Kept | None = None
    spent: dict[Stage, int] = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)
    minimal: bool = False
    diffuse: bool = False
    unreachable: bool = False
    started: float = field(default_factory=time.monotonic)

    def go(self, ranking: Ranking) -> None:
        """The four steps; each leaves what it found in `best`."""
        if self.passes(frozenset()):
            self.minimal = True
            return
        self.stage = "prefix"
        prefix = self.shortest_prefix(ranking())
        if self.unreachable:
            return
        self.stage = "shrink"
        self.diffuse = len(prefix) > SMALL
        found = self.hidden(prefix) if self.diffuse else self.shrunk(prefix)
        if found is not None and self.passes(found):
            self.diffuse = False
            self.stage = "proof"
            self.prove(found)

    def mre(self, kept: Kept) -> float:
        """The error with `kept`, remembered; NaN counts as infinite."""
        self.asked.add(kept)
        if kept not in self.errors:
            self.check_budget()
            found = float(self.evaluator(kept))
            self.errors[kept] = found if found == found else float("inf")
            self.spent[self.stage] = self.spent.get(self.stage, 0) + 1
            if self.progress is not None:
                number = sum(self.spent.values())
                self.progress(Step(number, self.stage, kept, self.errors[kept]))
        return self.errors[kept]

    def check_budget(self) -> None:
        """Raise where no evaluation is left."""
        done, seconds = sum(self.spent.values()), time.monotonic() - self.started
        if self.budget.evaluations is not None and done >= self.budget.evaluations:
            raise _OutOfBudgetError(f"its {self.budget.evaluations} evaluations are used")
        if self.budget.seconds is not None and seconds >= self.budget.seconds:
            raise _OutOfBudgetError(f"its {self.budget.seconds:g} s are over")

    def passes(self, kept: Kept) -> bool:
        """Whether `kept` is enough; the smallest that is becomes `best`."""
        enough = self.mre(kept) <= self.evaluator.tolerance
        if enough and (self.best is None or len(kept) < len(self.best)):
            self.best = kept
        return enough

    def prefix_passes(self, ranked: Ranked, size: int) -> bool:
        """Whether the first `size` of the ranking are enough; a point of the curve."""
        kept = frozenset(ranked.nodes[:size])
        self.curve[size] = self.mre(kept)
        return self.passes(kept)

    def shortest_prefix(self, ranked: Ranked) -> Sequence[str]:
        """The shortest passing prefix, by galloping and then halving; everything if none passes.

        The guess is that what overflows by itself must be kept and is enough.
        """
        failing, passing = 0, min(max(1, ranked.certain), len(ranked.nodes))
        while not self.prefix_passes(ranked, passing):
            if passing == len(ranked.nodes):
                self.unreachable = True
                return ranked.nodes
            failing, passing = passing, min(2 * passing, len(ranked.nodes))
        middle = passing - 1 if passing == ranked.certain else (failing + passing) // 2
        while passing - failing > 1:
            if self.prefix_passes(ranked, middle):
                passing = middle
            else:
                failing = middle
            middle = (failing + passing) // 2
        return ranked.nodes[:passing]

    def shrunk(self, prefix: Sequence[str]) -> Kept:
        """A passing set from which nothing can be taken, the cheapest way for the length of `prefix`."""
        return self.one_by_one(prefix) if len(prefix) <= HANDFUL else self.halving(prefix)

    def hidden(self, prefix: Sequence[str]) -> Kept | None:
        """A small set within a long prefix, if the evaluations for it find one."""
        before = sum(self.spent.values())

        def passes(kept: Kept) -> bool:
            used, near = sum(self.spent.values()) - before, len(self.best or prefix) <= 2 * SMALL
            if used >= (2 * LONG if near else LONG):
                raise _NotSmallError
            return self.passes(kept)

        try:
            needed = prefix[-1:]
            found = frozenset([*needed, *quick_xplain(passes, needed, prefix[:-1])])
        except _NotSmallError:
            found = self.best or frozenset(prefix)
        return found if len(found) <= SMALL else None

    def one_by_one(self, prefix: Sequence[str]) -> Kept:
        """A passing set from which nothing can be taken; the prefix without its last node fails."""
        found = frozenset(prefix)
        for node in reversed(prefix[:-1]):
            if self.passes(found - {node}):
                found -= {node}
        return found

    def halving(self, prefix: Sequence[str]) -> Kept:
        """The same by QuickXplain, for a prefix most of which may not be needed."""
        needed = prefix[-1:]
        return frozenset([*needed, *quick_xplain(self.passes, needed, prefix[:-1])])

    def prove(self, found: Kept) -> None:
        """Show that no node of `found` can be taken, and take those that can."""
        turns, failed = deque(sorted(found)), 0
        while failed < len(turns):
            node = turns.popleft()
            if self.passes(found - {node}):
                found, failed = found - {node}, 0
            else:
                turns.append(node)
                failed += 1
        self.best, self.minimal = found, True

    def result(self) -> SearchResult:
        """What is known now."""
        best = self.best or frozenset()
        proof = self.spent.get("proof", 0)
        curve = {**self.curve, 0: self.errors[frozenset()]} if frozenset() in self.errors else self.curve
        return SearchResult(
            tolerance=self.evaluator.tolerance,
            nodes=tuple(node for node in self.evaluator.candidates if node in best),
            before=self.errors.get(frozenset()),
            after=self.errors[best] if self.best is not None else None,
            evaluations=sum(self.spent.values()) - proof,
            proof_evaluations=proof,
            remembered=len(self.asked & self.errors.keys()) - sum(self.spent.values()),
            curve=tuple(Point(kept, mre) for kept, mre in sorted(curve.items())),
            minimal=self.minimal,
            diffuse=self.diffuse,
            unreachable=self.unreachable,
            interrupted=self.interrupted,
        )


def quick_xplain(passes: Callable[[Kept], bool], needed: Sequence[str], options: Sequence[str]) -> list[str]:
    """A smallest set of `options` that passes together with `needed`, preferring the front of `options`.

    Smallest: no member can be taken.  `passes` must not fail for more nodes where it passes for fewer, and
    must pass for `needed` and all of `options`.
    """
    if passes(frozenset(needed)):
        return []
    return _explain(passes, list(needed), list(options), changed=False)


def _explain(
    passes: Callable[[Kept], bool], needed: list[str], options: list[str], *, changed: bool
) -> list[str]:
    if changed and passes(frozenset(needed)):
        return []
    if len(options) == 1:
        return options
    front, back = options[: len(options) // 2], options[len(options) // 2 :]
    from_back = _explain(passes, needed + front, back, changed=True)
    from_front = _explain(passes, needed + from_back, front, changed=bool(from_back))
    return from_front + from_back
