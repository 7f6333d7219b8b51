"""What a layer-wise comparison finds: the error of every tensor, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from harness.comparison.result import Comparison
from harness.comparison.value_range import ValueRange, format_of
from harness.layers.graph import Place
from harness.precision import UNIT_ROUNDOFF, Precision, Tolerance


@dataclass(frozen=True)
class Layer:
    """One tensor: what makes it, its comparison, the range of its reference, and the error that came in.

    `error_in` is the largest error of the tensors that its node reads; a tensor that was not compared
    stands for those that it is made from.  `output`: whether it is a final output.
    """

    place: Place
    comparison: Comparison
    values: ValueRange | None
    error_in: float
    output: bool = False

    @property
    def error(self) -> float:
        """`mre`; for integers and bools the share that differs; infinite where no number tells."""
        return error_of(self.comparison)

    @property
    def over(self) -> bool:
        """Whether the tensor as a whole is out of tolerance; single parts count for a final output only."""
        return (self.output and bool(self.comparison.faults)) or any(
            fault.kind not in ("row", "element") for fault in self.comparison.faults
        )

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


def error_of(found: Comparison) -> float:
    """One number for how wrong a tensor is: `mre`, the share unequal, or infinity."""
    if found.equality is not None:
        return found.equality.fraction
    if found.metrics is not None and not found.metrics.finite and not found.faults:
        return 0.0
    return math.inf if math.isnan(found.mre) else found.mre
