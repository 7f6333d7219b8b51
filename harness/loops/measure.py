"""The error of one step, cheap enough to be had at every one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Tensors
from harness.spec.parts import OutputSpec
from harness.spec.terms import Terms

Array = NDArray[Any]
BLOCK = 1 << 16
"""Elements taken at once: what fits the processor's cache."""


@dataclass(frozen=True)
class StepError:
    """Sums over one output of one step, in float64: |got - expected| and |expected|.

    Integers and bools count unequal elements.  `mre` is infinite where shapes differ and NaN where NaN or
    infinities do.
    """

    difference: float
    magnitude: float

    @property
    def mre(self) -> float:
        """The mean relative error."""
        if self.magnitude > 0 or math.isnan(self.difference):
            return self.difference / (self.magnitude or 1.0)
        return math.inf if self.difference else 0.0


def step_errors(got: Tensors, expected: Tensors, terms: Terms) -> dict[str, StepError]:
    """The error of every output that is compared; one that is missing has an infinite one."""
    wanted = (name for name in expected if terms.rule(name).compare != "ignore")
    return {name: step_error(got.get(name), expected[name], terms.rule(name)) for name in wanted}


def step_error(got: Array | None, expected: Array, rule: OutputSpec) -> StepError:
    """The error of one output."""
    if got is None or got.shape != expected.shape:
        return StepError(math.inf, 1.0)
    if rule.compare == "exact" or expected.dtype.kind in "iub":
        unequal = float(np.count_nonzero(got != expected))
        return StepError(max(0.0, unequal - rule.mismatch_fraction * expected.size), float(expected.size))
    difference, magnitude = _sums(got.reshape(-1), expected.reshape(-1))
    return StepError(difference, max(magnitude, (rule.scale or 0.0) * expected.size))


def _sums(got: Array, expected: Array) -> tuple[float, float]:
    difference = magnitude = 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, got.size, BLOCK):
            theirs = expected[start : start + BLOCK].astype(np.float64)
            ours = got[start : start + BLOCK].astype(np.float64)
            difference += float(np.abs(np.subtract(ours, theirs, out=ours), out=ours).sum())
            magnitude += float(np.abs(theirs, out=theirs).sum())
    return (difference if math.isfinite(difference) else math.nan), magnitude


def non_finite(tensors: Tensors) -> str | None:
    """The first tensor with NaN or infinities; None where there is none."""
    return next((name for name, array in tensors.items() if not _finite(array)), None)


def _finite(array: Array) -> bool:
    """Whether all elements are finite: their sum is, unless it overflows, which is looked at again."""
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(float(array.sum(dtype=np.float64))):
            return True
    return bool(np.isfinite(array.astype(np.float64)).all())


def largest(errors: Mapping[str, StepError]) -> float:
    """The largest `mre` of all outputs, NaN above all."""
    found = [error.mre for error in errors.values()]
    return math.nan if any(map(math.isnan, found)) else max(found, default=0.0)
