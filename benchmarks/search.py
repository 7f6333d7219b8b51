"""The FP32 search beside bisection over layer order: nodes kept, evaluations, seconds.

    python -m benchmarks.search [MODEL...]

Both ask the same evaluator, by `mre` alone, on the shapes and data of the suite; `trt-harness fetch` brings
magika and ppocrv4_rec.  Bisection is what Polygraphy's `debug precision` does: the shortest run of layers
that passes, from the inputs or from the outputs.  What the two share is shown too, where that passes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import arguments, one_of
from harness.backends.choose import create
from harness.comparison.emulated_error import Compared
from harness.engines.subject import Subject
from harness.errors import UsageError
from harness.precision import Precision, PrecisionPlan
from harness.search.case import SuiteSamples
from harness.search.evaluator import EmulationEvaluator, evaluator
from harness.search.result import Budget, Kept, SearchResult
from harness.search.shrink import search
from harness.spec.file import read_spec
from harness.storage.cache import Cache

MODELS = Path(__file__).parent.parent / "suites" / "models"


@dataclass(frozen=True)
class Target:
    """A model, the limit on `mre`, and what the search may take: nodes, and evaluations to find them."""

    model: str
    precision: Precision
    tolerance: float
    nodes: int
    evaluations: int


TARGETS = (
    Target("overflow_transformer", Precision.FP16, 5e-3, 5, 15),
    Target("magika", Precision.FP16, 5e-3, 3, 12),
    Target("ppocrv4_rec", Precision.INT8, 5e-2, 16, 12),
)


class Counted:
    """An evaluator that counts the sets it is asked for, each once."""

    def __init__(self, inner: EmulationEvaluator) -> None:
        self._inner = inner
        self._known: dict[Kept, float] = {}

    @property
    def evaluations(self) -> int:
        """Sets evaluated."""
        return len(self._known)

    def passes(self, kept: Sequence[str]) -> bool:
        """Whether the error is allowed."""
        chosen = frozenset(kept)
        if chosen not in self._known:
            self._known[chosen] = self._inner(chosen)
        return self._known[chosen] <= self._inner.tolerance


@dataclass(frozen=True)
class Bisected:
    """Nodes kept from the inputs, from the outputs and by both, None where nothing passes; evaluations."""

    forward: int | None
    backward: int | None
    shared: int | None
    evaluations: tuple[int, int]

    def __str__(self) -> str:
        one, both = self.evaluations
        return (
            f"{self.forward} nodes forward in {one} evaluations, {self.backward} backward; "
            f"{self.shared} shared, all in {both}"
        )


def bisection(found: EmulationEvaluator) -> Bisected:
    """What bisection over layer order keeps."""
    counted, order = Counted(found), found.candidates
    if counted.passes(()):
        return Bisected(0, 0, 0, (1, 1))
    forward = _shortest(counted, lambda size: order[:size], len(order))
    one = counted.evaluations
    backward = _shortest(counted, lambda size: order[len(order) - size :], len(order))
    if forward is None or backward is None:
        return Bisected(forward, backward, None, (one, counted.evaluations))
    shared = order[len(order) - backward : forward]
    kept = len(shared) if counted.passes(shared) else None
    return Bisected(forward, backward, kept, (one, counted.evaluations))


def _shortest(counted: Counted, pick: Callable[[int], Sequence[str]], most: int) -> int | None:
    failing, passing = 0, most
    if not counted.passes(pick(passing)):
        return None
    while passing - failing > 1:
        middle = (failing + passing) // 2
        if counted.passes(pick(middle)):
            passing = middle
        else:
            failing = middle
    return passing


def compare(target: Target, folder: Path) -> bool:
    """Print one model's figures; whether the search keeps within its target."""
    subject = Subject(read_spec(MODELS / target.model / "spec.toml"), create("onnxruntime"), Cache(folder))
    with SuiteSamples(subject) as samples:
        plan = PrecisionPlan(target.precision)
        compared = Compared(subject.output_names, tuple(samples.cases))
        ranges = subject.ranges(plan)
        found = evaluator(
            subject.normalised, plan, samples, target.tolerance, ranges=ranges, compared=compared
        )
        return _figures(target, found)


def _figures(target: Target, found: EmulationEvaluator) -> bool:
    start = time.perf_counter()
    layers = bisection(found)
    bisected = time.perf_counter()
    quick = search(found, found.ranking, budget=Budget(evaluations=target.evaluations))
    searched = time.perf_counter()
    whole = search(found, found.ranking)
    label = (
        f"{target.model}[{target.precision}] mre <= {target.tolerance:g}, {len(found.candidates)} candidates"
    )
    good = quick.passed and len(quick.nodes) <= target.nodes and not quick.diffuse
    print(f"{label}: {'ok' if good else 'MISSED'}")
    print(f"    bisection {layers}, {bisected - start:.1f} s")
    allowed = f"(allowed: {target.nodes} in {target.evaluations})"
    print(f"    search    {_words(quick)}, {searched - bisected:.1f} s {allowed}")
    print(f"    to the end {_words(whole)}", flush=True)
    return good


def _words(result: SearchResult) -> str:
    shown = ", shown minimal" if result.minimal else ""
    total = result.evaluations + result.proof_evaluations
    return f"{len(result.nodes)} nodes, {total} evaluations ({result.proof_evaluations} of them proof){shown}"


def main(names: Sequence[str]) -> int:
    """Compare on the named models, or all; 1 if a target is missed or a model is not fetched."""
    chosen = [target for target in TARGETS if not names or target.model in names]
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for target in chosen:
            try:
                good = compare(target, Path(folder)) and good
            except UsageError as error:
                print(f"{target.model}: {error}")
                good = False
    return 0 if good else 1


if __name__ == "__main__":
    names = [target.model for target in TARGETS]
    text = f"one of {', '.join(names)} (default: all)"
    models = {"nargs": "*", "type": one_of(names), "metavar": "MODEL", "help": text}
    sys.exit(main(arguments(__file__, __doc__, models=models).models))
