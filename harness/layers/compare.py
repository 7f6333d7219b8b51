"""Layer-wise comparison: every intermediate tensor of an engine against the reference's of the same name.

Tensors are had in groups that fit a memory budget, each group from an instrumented engine and an
instrumented reference of its own, and are compared and dropped at once; nothing is written to disk.  Where a
backend can run a part of a model, a group starts from the tensors before it that it reads, which are kept, so
that the model runs once however many groups there are; elsewhere it runs once for each.  An instrumented
engine is another engine: its final outputs are compared with the plain engine's (the observer effect), and
what it shows explains, it does not decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.base import NOTHING, Engine, Shapes, Tensors
from harness.comparison.compare import compare
from harness.comparison.result import Comparison
from harness.comparison.value_range import ValueRange, format_of, measure_range
from harness.errors import DataError
from harness.layers.graph import Extent, Groups, Place, extents_of, groups_of, last_reads, places_of
from harness.layers.result import Layer, Layers, error_of
from harness.spec.terms import EVERY_NUMBER, Terms

MEMORY_BYTES = 512 * 2**20
SLICE_BYTES = 128 * 2**20
"""As much memory as a part of a model is given: to open more parts is cheaper than to touch more memory."""


class Opener(Protocol):
    """Opens an engine that returns `tensors`; it may start from `given` ones, which it then has as inputs.

    It may be told `shapes` of tensors, and then return arrays that the next run overwrites.
    """

    def __call__(
        self, tensors: Sequence[str], given: Tensors = NOTHING, shapes: Shapes = NOTHING, /
    ) -> Engine: ...


@dataclass(frozen=True)
class LayerQuestion:
    """What is compared, on what.

    `normalised` is the FP32 graph; `offered` the tensors that the engine can show, with bytes per element;
    `reference` and `engine` open runs that return the named tensors, the engine's besides its final outputs;
    `outputs` are the plain engine's final outputs for `feeds`, run on `profile`.  `sliced`: both can start
    from tensors that are given.
    """

    normalised: ir.Model
    offered: Mapping[str, int]
    terms: Terms
    feeds: Tensors
    reference: Opener
    engine: Opener
    outputs: Mapping[str, NDArray[Any]]
    instrumentation: str
    memory_bytes: int = MEMORY_BYTES
    sliced: bool = False
    profile: int = 0


def compare_layers(question: LayerQuestion, progress: Callable[[str], None] | None = None) -> Layers:
    """Compare every tensor that both sides have, group by group.

    Raises DataError where there is no tensor to compare, and what opening and running engines raises.
    """
    places = places_of(question.normalised)
    shared = [place.tensor for place in places if place.tensor in question.offered]
    if not shared:
        raise DataError("the engine offers no tensor of the reference: there are no layers to compare")
    extents = extents_of(question.normalised, shared, question.feeds)
    enough = SLICE_BYTES if question.sliced else None
    plan = groups_of(_needs(question, extents), question.memory_bytes, enough_bytes=enough)
    run = _Run(question, places, {name: extent.shape for name, extent in extents.items()})
    for index, group in enumerate(plan.groups):
        if progress is not None:
            progress(f"layers: group {index + 1} of {len(plan.groups)}, {len(group)} tensors")
        run.compare_group(group)
    return _layers(question, places, plan, run)


def _needs(question: LayerQuestion, extents: Mapping[str, Extent]) -> dict[str, int]:
    """Bytes of each tensor on both sides together; the reference is FP32 where it is a float."""
    shares = {name: 1 + min(1.0, question.offered[name] / 4) for name in extents}
    return {name: math.ceil(extent.nbytes * shares[name]) for name, extent in extents.items()}


@dataclass
class _Run:
    """Compares group after group; keeps the tensors that later groups read."""

    question: LayerQuestion
    places: Sequence[Place]
    shapes: Shapes
    found: dict[str, tuple[Comparison, ValueRange | None]] = field(default_factory=dict)
    observer: dict[str, float] = field(default_factory=dict)
    expected: dict[str, NDArray[Any]] = field(default_factory=dict)
    actual: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last_reads = last_reads(self.places)
        self._index = {place.tensor: index for index, place in enumerate(self.places)}

    def compare_group(self, group: Sequence[str]) -> None:
        """Have the tensors of one group from both sides, compare each, drop it unless it is read later."""
        question = self.question
        expected = self._run(question.reference, group, self.expected)
        actual = self._run(question.engine, group, self.actual, question.profile)
        self._observe(actual)
        end = self._index[group[-1]]
        self._forget(end)
        for name in group:
            ours, theirs = actual.pop(name), expected.pop(name)
            self.found[name] = _compare_tensor(question, name, ours, theirs)
            if question.sliced and self._last_reads.get(name, -1) > end:  # a copy: the next run overwrites
                self.actual[name], self.expected[name] = ours.copy(), theirs.copy()

    def _run(
        self, opener: Opener, group: Sequence[str], kept: Tensors, profile: int = 0
    ) -> dict[str, NDArray[Any]]:
        if not self.question.sliced:
            with opener(group) as engine:
                run = partial(engine.run, profile=profile) if profile else engine.run
                return run(self.question.feeds)
        with opener(group, kept, self.shapes) as engine:
            feeds = {**self.question.feeds, **kept}
            return engine.run({info.name: feeds[info.name] for info in engine.inputs})

    def _observe(self, actual: Tensors) -> None:
        question = self.question
        for name, plain in question.outputs.items():
            if name in actual:
                terms = question.terms
                changed = compare(actual[name], plain, terms.tolerance, precision=terms.precision)
                self.observer[name] = max(self.observer.get(name, 0.0), error_of(changed))

    def _forget(self, end: int) -> None:
        for name in [name for name in self.expected if self._last_reads[name] <= end]:
            del self.expected[name], self.actual[name]


def _compare_tensor(
    question: LayerQuestion, name: str, actual: NDArray[Any], expected: NDArray[Any]
) -> tuple[Comparison, ValueRange | None]:
    """A final output as the outputs suite judges it, any other tensor briefly."""
    terms, last = question.terms, name in question.outputs
    rule = terms.rule(name) if last else EVERY_NUMBER
    found = compare(
        actual, expected, terms.tolerance, precision=terms.precision, name=name, rule=rule, brief=not last
    )
    if found.metrics is None:
        return found, None
    return found, found.metrics.values or measure_range(expected, format_of(terms.precision))


def _layers(
    question: LayerQuestion,
    places: Sequence[Place],
    plan: Groups,
    run: _Run,
) -> Layers:
    found = run.found
    errors: dict[str, float] = {}
    layers = []
    for place in places:
        error_in = max((errors.get(name, 0.0) for name in place.reads), default=0.0)
        if place.tensor not in found:
            errors[place.tensor] = error_in
            continue
        comparison, values = found[place.tensor]
        layers.append(Layer(place, comparison, values, error_in, place.tensor in question.outputs))
        errors[place.tensor] = layers[-1].error
    return Layers(
        question.terms.precision,
        question.terms.tolerance,
        tuple(layers),
        question.instrumentation,
        len(plan.groups),
        question.memory_bytes,
        tuple(place.tensor for place in places if place.tensor not in found),
        plan.oversized,
        dict(run.observer),
    )
