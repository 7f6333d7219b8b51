"""The smallest piece of a failing model that fails by itself, fed with the reference's own tensors.

1. A piece (see `lowering/piece.py`) is lowered, built and run as the whole was, on the FP32 reference's
   tensors where it was cut; it fails where an output of it is out of the case's tolerance in the way of the
   whole: in structure, in places of NaN and infinities, in size, or in values that must be equal, the first
   of these that the whole shows.  A rounded integer within a model may well differ where none does outside.
2. Of a failing piece only what its first such output needs is kept.
3. Bisection finds an end before which nothing fails, and a start after which it still fails; then runs of
   nodes are taken out, halves first, single nodes last (delta debugging: Zeller, Hildebrandt, TSE 2002).
4. A piece that cannot be cut, lowered, built or run counts as one that does not fail.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.comparison.compare import compare_outputs
from harness.comparison.explain import explain
from harness.comparison.result import NON_FINITE, STRUCTURE, OutputsComparison
from harness.engines.engine import BuiltEngine, EngineSource, build
from harness.engines.subject import code_digest
from harness.errors import BackendError, LoweringError, UsageError
from harness.graph import file as onnx_file
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower
from harness.precision import PrecisionPlan
from harness.reproduce.failure import Arrays, Failure
from harness.reproduce.piece import ends_of, needed_by, piece_of
from harness.search.evaluator import literal
from harness.spec.model_spec import Profile, ShapeRange
from harness.storage.cache import Cache

if TYPE_CHECKING:
    from harness.backends.base import Backend
    from harness.engines.subject import Subject

EVALUATIONS = 200
"""How many pieces are tried at most."""
WAYS = (STRUCTURE, NON_FINITE, frozenset({"mre", "row", "element"}), frozenset({"unequal"}))
"""Kinds of faults that are one way to fail, the worst first."""
Nodes = frozenset[int]
Tell = Callable[[str], None]


@contextmanager
def minimised(failure: Failure, subject: Subject, tell: Tell = lambda _: None) -> Iterator[Failure]:
    """The failure of the smallest piece found, until Ctrl-C; the same one where only the whole model fails.

    The engine of the piece lives as long as the context.  `tell` hears of every smaller piece.
    """
    with tempfile.TemporaryDirectory(prefix="trt-harness-") as folder:
        trial = _Trial(failure, subject, Cache(Path(folder)), tell)
        try:
            trial.reduce()
        except KeyboardInterrupt:
            tell("stopped: the smallest piece found so far is taken")
        yield trial.best or failure


@dataclass
class _Trial:
    """One reduction: the pieces tried, and the failure of the smallest that fails."""

    failure: Failure
    subject: Subject
    cache: Cache
    tell: Tell
    best: Failure | None = None
    tried: dict[Nodes, Nodes | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes: Sequence[ir.Node] = list(self.failure.normalised.graph)
        self.backend = _in_process(self.subject.backend, self.failure.built)
        self.way = next((way for way in WAYS if _showing(self.failure.found, way)), frozenset())
        self.ranges = self.subject.ranges(self.failure.plan)

    def reduce(self) -> None:
        """Cut end and start, then take out runs of nodes."""
        whole = self.fails(frozenset(range(len(self.nodes))))
        if whole is not None:
            self.thinned(self.started(self.ended(whole)))

    def ended(self, piece: Nodes) -> Nodes:
        """The shortest failing prefix that bisection finds."""
        order = sorted(piece)
        passing, failing = 0, len(order)
        while failing - passing > 1:
            middle = (passing + failing) // 2
            if found := self.fails(frozenset(order[:middle])):
                failing, piece = middle, found
            else:
                passing = middle
        return piece

    def started(self, piece: Nodes) -> Nodes:
        """The shortest failing suffix that bisection finds."""
        order = sorted(piece)
        failing, passing = 0, len(order)
        while passing - failing > 1:
            middle = (passing + failing) // 2
            if found := self.fails(frozenset(order[middle:])):
                failing, piece = middle, found
            else:
                passing = middle
        return piece

    def thinned(self, piece: Nodes) -> Nodes:
        """Without every run of nodes, the long ones first, that it fails without."""
        size = len(piece) // 2
        while size >= 1:
            order, smaller = sorted(piece), False
            for first in range(0, len(order), size):
                rest = piece - set(order[first : first + size])
                if rest and (found := self.fails(rest)):
                    piece, smaller = found, True
            size = size if smaller and size == 1 else size // 2
        return piece

    def fails(self, piece: Nodes) -> Nodes | None:
        """What of `piece` its first failing output needs; None where it does not fail, or no try is left."""
        if piece not in self.tried:
            if len(self.tried) >= EVALUATIONS:
                return None
            self.tried[piece] = self._needed(piece)
        return self.tried[piece]

    def _needed(self, piece: Nodes) -> Nodes | None:
        chosen = [self.nodes[index] for index in sorted(piece)]
        inputs, outputs = ends_of(self.failure.normalised, chosen)
        found = self._tried(inputs, outputs)
        if found is None:
            return None
        if len(outputs) > 1:
            first = next((name for name in _showing(found.found, self.way) if name in outputs), outputs[0])
            needed = needed_by(first, chosen)
            order = sorted(piece)
            return self._alone(frozenset(order[index] for index in needed), first) or self._take(found, piece)
        return self._take(found, piece)

    def _alone(self, piece: Nodes, output: str) -> Nodes | None:
        """`piece` if it fails with `output` as its only output, which what is read by others may prevent."""
        chosen = [self.nodes[index] for index in sorted(piece)]
        inputs, _ = ends_of(self.failure.normalised, chosen)
        found = self._tried(inputs, (output,))
        return None if found is None else self._take(found, piece)

    def _take(self, found: Failure, piece: Nodes) -> Nodes:
        if self.best is None or found.nodes < self.best.nodes:
            self.best = found
            self.tell(f"{found.nodes} of {found.of} nodes still fail: mre {found.found.mre:.1e}")
        return piece

    def _tried(self, inputs: Sequence[str], outputs: Sequence[str]) -> Failure | None:
        """The failure of a piece; None where it does not fail, or not in the way of the whole."""
        try:
            found = self._run(inputs, outputs)
            return found if _showing(found.found, self.way) else None
        except (BackendError, LoweringError, UsageError, ValidationError, ValueError):
            return None

    def _run(self, inputs: Sequence[str], outputs: Sequence[str]) -> Failure:
        tensors = self._reference(inputs, outputs)
        feeds = {name: tensors[name] for name in inputs}
        expected = {name: tensors[name] for name in outputs}
        model = piece_of(self.failure.normalised, feeds, outputs)
        plan = _plan_for(self.failure.plan, model)
        built = build(self._source(model, plan, feeds), self.backend, self.cache)
        with built.open("verified") as engine:
            actual = engine.run(feeds)
        return self._failed(model, plan, built, (feeds, expected, actual))

    def _failed(
        self,
        model: ir.Model,
        plan: PrecisionPlan,
        built: BuiltEngine,
        tensors: tuple[Arrays, Arrays, Arrays],
    ) -> Failure:
        feeds, expected, actual = tensors
        failure = self.failure
        found = self._judged(model, plan, feeds, expected, actual)
        names = ", ".join(node.name or node.op_type for node in list(model.graph)[:8])
        context = [f"cut from {failure.place}: {len(model.graph)} of {failure.of} nodes: {names}"]
        return replace(
            failure,
            plan=plan,
            terms=failure.terms.without_rules(),
            normalised=model,
            built=built,
            feeds=feeds,
            expected=expected,
            actual=actual,
            found=found,
            text=explain(found, f"{failure.label} minimised", context=context),
        )

    def _judged(
        self, model: ir.Model, plan: PrecisionPlan, feeds: Arrays, expected: Arrays, actual: Arrays
    ) -> OutputsComparison:
        """What the piece's engine shows, and whether the emulation of the piece explains it."""
        from harness.backends.onnxruntime.backend import SessionSettings, emulation_level, run_model

        terms = self.failure.terms.without_rules()
        if self.backend.info().provider == "CPUExecutionProvider":
            return compare_outputs(actual, expected, terms).explained_by_itself()
        settings = SessionSettings(level=emulation_level(plan.precision))
        emulation = emulate(lower(model, plan, self.ranges))
        shown = run_model(emulation, feeds, tuple(expected), settings=settings)
        explained = compare_outputs(shown, expected, terms)
        return compare_outputs(actual, expected, terms, emulation=explained)

    def _reference(self, inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        from harness.backends.onnxruntime.backend import run_model

        given = {name: self.failure.feeds[name] for name in inputs if name in self.failure.feeds}
        rest = [name for name in (*inputs, *outputs) if name not in given]
        return {**given, **run_model(self.failure.normalised, self.failure.feeds, tuple(dict.fromkeys(rest)))}

    def _source(self, model: ir.Model, plan: PrecisionPlan, feeds: Arrays) -> EngineSource:
        shapes = {n: ShapeRange(min=a.shape, opt=a.shape, max=a.shape) for n, a in feeds.items()}
        return EngineSource(
            name=f"{self.subject.spec.name} piece",
            model_sha256=onnx_file.digest(model),
            code_sha256=code_digest(),
            plan=plan,
            ranges=self.ranges,
            profiles=(Profile(shapes=shapes),),
            options=self.failure.options,
            lower=lambda: lower(model, plan, self.ranges),
        )


def _plan_for(plan: PrecisionPlan, model: ir.Model) -> PrecisionPlan:
    """The plan with the names of the piece's nodes that it keeps: patterns may match none of them."""
    kept = [node for node in model.graph if plan.keeps(node.name or "", node.op_type)]
    return PrecisionPlan(plan.precision, tuple(literal(node.name or "") for node in kept))


def _showing(found: OutputsComparison, way: frozenset[str]) -> list[str]:
    """Names of the outputs, or of what is amiss with their structure, that fail in `way`."""
    own = [str(fault.got) for fault in found.faults if fault.kind in way]
    return own + [one.name for one in found.comparisons if any(fault.kind in way for fault in one.faults)]


def _in_process(backend: Backend, whole: BuiltEngine) -> Backend:
    """The backend without a trial in a child process for each build: the whole model has run already.

    Where its deployed face crashed, those of pieces would.
    """
    if backend.name != "onnxruntime" or whole.unavailable:
        return backend
    return replace(backend, isolate=False)  # type: ignore[type-var]
