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
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import onnx_ir as ir
from numpy.typing import NDArray

from harness import explain_layers
from harness.backends.base import Engine, Tensors
from harness.compare import compare
from harness.comparison import Comparison
from harness.errors import DataError
from harness.layer_graph import Groups, Place, bytes_of, groups_of, last_reads, places_of
from harness.precision import UNIT_ROUNDOFF, Precision, Tolerance
from harness.value_range import ValueRange, format_of

MEMORY_BYTES = 512 * 2**20
NOTHING: Tensors = MappingProxyType({})


class Opener(Protocol):
    """Opens an engine that returns `tensors`; it may start from `given` ones, which it then has as inputs."""

    def __call__(self, tensors: Sequence[str], given: Tensors = NOTHING, /) -> Engine: ...


@dataclass(frozen=True)
class Layer:
    """One tensor: what makes it, its comparison, the range of its reference, and the error that came in.

    `error_in` is the largest error of the tensors that its node reads; a tensor that was not compared
    stands for those that it is made from.
    """

    place: Place
    comparison: Comparison
    values: ValueRange | None
    error_in: float

    @property
    def error(self) -> float:
        """`mre`; for integers and bools the share that differs; infinite where no number tells."""
        return error_of(self.comparison)

    @property
    def over(self) -> bool:
        """Whether the tensor as a whole is out of tolerance; single rows and elements do not count here."""
        return any(fault.kind not in ("row", "element") for fault in self.comparison.faults)

    @property
    def finite(self) -> bool:
        """Whether NaN and infinities are where the reference has them."""
        return not any(fault.kind in ("nan", "+inf", "-inf") for fault in self.comparison.faults)

    @property
    def amplification(self) -> float:
        """Error out over the largest error in, which counts as one unit roundoff at least."""
        if math.isinf(self.error_in):
            return 1.0
        return self.error / max(self.error_in, UNIT_ROUNDOFF[self.comparison.precision])

    @property
    def created(self) -> float:
        """How much more error leaves the node than came in; 0 where it shrinks."""
        return 0.0 if math.isinf(self.error_in) else max(0.0, self.error - self.error_in)


@dataclass(frozen=True)
class Layers:
    """All tensors in graph order, and how they were had.

    `instrumentation` is the backend's word for it.  `not_offered`: tensors that the engine does not have.
    `oversized`: tensors that alone exceed `memory_bytes`.  `observer`: by output, the `mre` between the
    instrumented engines and the plain one.
    """

    precision: Precision
    tolerance: Tolerance
    layers: tuple[Layer, ...]
    instrumentation: str
    groups: int
    memory_bytes: int
    not_offered: tuple[str, ...] = ()
    oversized: tuple[str, ...] = ()
    observer: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def over(self) -> tuple[Layer, ...]:
        """The tensors out of tolerance, in graph order: the first to diverge first."""
        return tuple(layer for layer in self.layers if layer.over)

    @property
    def first_over(self) -> Layer | None:
        """The first tensor out of tolerance."""
        return next(iter(self.over), None)

    @property
    def first_non_finite(self) -> Layer | None:
        """The first tensor with NaN or infinities of its own."""
        return next((layer for layer in self.layers if not layer.finite), None)

    def creators(self, count: int = 5) -> tuple[Layer, ...]:
        """The tensors that create most error, most first."""
        found = [layer for layer in self.layers if layer.created > 0.0]
        return tuple(sorted(found, key=lambda layer: -layer.created)[:count])

    @property
    def beyond_range(self) -> tuple[Layer, ...]:
        """Tensors whose reference exceeds the largest number of the precision's format."""
        largest = format_of(self.precision).largest
        return tuple(one for one in self.layers if one.values and one.values.largest > largest)

    @property
    def observer_effect(self) -> float:
        """The largest difference that instrumenting made to a final output, as an `mre`."""
        return max(self.observer.values(), default=0.0)

    @property
    def observed(self) -> bool:
        """Whether instrumenting changed the outputs by more than half the usual error."""
        return self.observer_effect > self.tolerance.expected / 2

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        return explain_layers.warnings(self)

    def explain(self, subject: str = "", *, context: Sequence[str] = (), reproduce: str = "") -> str:
        """All layers out of tolerance in one text, the first to diverge first, then who creates the error."""
        return explain_layers.layers(self, subject, context=context, reproduce=reproduce)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, one flat row for each tensor."""
        return explain_layers.to_json(self)


@dataclass(frozen=True)
class LayerQuestion:
    """What is compared, on what.

    `normalised` is the FP32 graph; `offered` the tensors that the engine can show, with bytes per element;
    `reference` and `engine` open runs that return the named tensors, the engine's besides its final outputs;
    `outputs` are the plain engine's final outputs for `feeds`.  `sliced`: both can start from tensors that
    are given.
    """

    normalised: ir.Model
    offered: Mapping[str, int]
    precision: Precision
    tolerance: Tolerance
    feeds: Tensors
    reference: Opener
    engine: Opener
    outputs: Mapping[str, NDArray[Any]]
    instrumentation: str
    memory_bytes: int = MEMORY_BYTES
    sliced: bool = False


def compare_layers(question: LayerQuestion, progress: Callable[[str], None] | None = None) -> Layers:
    """Compare every tensor that both sides have, group by group.

    Raises DataError where there is no tensor to compare, and what opening and running engines raises.
    """
    places = places_of(question.normalised)
    shared = [place.tensor for place in places if place.tensor in question.offered]
    if not shared:
        raise DataError("the engine offers no tensor of the reference: there are no layers to compare")
    plan = groups_of(_needs(question, shared), question.memory_bytes)
    run = _Run(question, places)
    for index, group in enumerate(plan.groups):
        if progress is not None:
            progress(f"layers: group {index + 1} of {len(plan.groups)}, {len(group)} tensors")
        run.compare_group(group)
    return _layers(question, places, plan, run)


def _needs(question: LayerQuestion, names: Sequence[str]) -> dict[str, int]:
    """Bytes of each tensor on both sides together; the reference is FP32 where it is a float."""
    sizes = bytes_of(question.normalised, names, question.feeds)
    return {
        name: math.ceil(size * (1 + min(1.0, question.offered[name] / 4))) for name, size in sizes.items()
    }


@dataclass
class _Run:
    """Compares group after group; keeps the tensors that later groups read."""

    question: LayerQuestion
    places: Sequence[Place]
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
        actual = self._run(question.engine, group, self.actual)
        self._observe(actual)
        end = self._index[group[-1]]
        self._forget(end)
        for name in group:
            ours, theirs = actual.pop(name), expected.pop(name)
            self.found[name] = _compare_tensor(question, name, ours, theirs)
            if question.sliced and self._last_reads.get(name, -1) > end:  # a copy: outputs pin a whole arena
                self.actual[name], self.expected[name] = ours.copy(), theirs.copy()

    def _run(self, opener: Opener, group: Sequence[str], kept: Tensors) -> dict[str, NDArray[Any]]:
        if not self.question.sliced:
            with opener(group) as engine:
                return engine.run(self.question.feeds)
        with opener(group, kept) as engine:
            feeds = {**self.question.feeds, **kept}
            return engine.run({info.name: feeds[info.name] for info in engine.inputs})

    def _observe(self, actual: Tensors) -> None:
        question = self.question
        for name, plain in question.outputs.items():
            if name in actual:
                changed = compare(actual[name], plain, question.tolerance, precision=question.precision)
                self.observer[name] = max(self.observer.get(name, 0.0), error_of(changed))

    def _forget(self, end: int) -> None:
        for name in [name for name in self.expected if self._last_reads[name] <= end]:
            del self.expected[name], self.actual[name]


def _compare_tensor(
    question: LayerQuestion, name: str, actual: NDArray[Any], expected: NDArray[Any]
) -> tuple[Comparison, ValueRange | None]:
    found = compare(actual, expected, question.tolerance, precision=question.precision, name=name, brief=True)
    return found, found.metrics.values if found.metrics else None


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
        layers.append(Layer(place, comparison, values, error_in))
        errors[place.tensor] = layers[-1].error
    return Layers(
        question.precision,
        question.tolerance,
        tuple(layers),
        question.instrumentation,
        len(plan.groups),
        question.memory_bytes,
        tuple(place.tensor for place in places if place.tensor not in found),
        plan.oversized,
        dict(run.observer),
    )


def error_of(found: Comparison) -> float:
    """One number for how wrong a tensor is: `mre`, the share unequal, or infinity."""
    if found.equality is not None:
        return found.equality.fraction
    if found.metrics is not None and not found.metrics.finite and not found.faults:
        return 0.0
    return math.inf if math.isnan(found.mre) else found.mre
