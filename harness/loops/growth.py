"""How an error grows from step to step: not, by as much each step, or by a factor each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FEWEST, RISE = 8, 2.0
"""Fewer steps tell nothing; a fit that does not double from the first step to the last is no growth."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Growth:
    """The kind of growth and what a step adds: `mre` where it is linear, a factor where it is exponential.

    `unknown`: too few steps, or none with an error.
    """

    kind: Literal["unknown", "none", "linear", "exponential"]
    per_step: float | None = None


def fit(errors: Sequence[float]) -> Growth:
    """The growth that explains `errors`, one a step, best.

    Least squares on their logarithms, since errors scatter by factors: a constant, `b (k + t)` and
    `a exp(b t)`, chosen by BIC.  Steps whose error is 0 or not finite are left out.
    """
    t = np.array([k for k, e in enumerate(errors) if 0 < e < math.inf], float)
    logs = np.log([errors[int(k)] for k in t]) if len(t) else t
    if len(t) < FEWEST:
        return Growth("unknown")
    constant = float(np.square(logs - logs.mean()).sum())
    slope, linear, offset = _linear(t, logs)
    rate, exponential = _exponential(t, logs)
    kinds = {
        "none": _bic(constant, t, 1),
        "linear": _bic(linear, t, 2),
        "exponential": _bic(exponential, t, 2),
    }
    best = min(kinds, key=kinds.__getitem__)
    rise = {
        "none": 1.0,
        "linear": (offset + t[-1]) / (offset + t[0]),
        "exponential": math.exp(min(700.0, rate * (t[-1] - t[0]))),
    }
    if best == "none" or rise[best] < RISE:
        return Growth("none")
    return Growth("linear", slope) if best == "linear" else Growth("exponential", math.exp(rate))


def _bic(residual: float, t: Floats, parameters: int) -> float:
    """Bayes' information criterion of a fit, up to a constant."""
    n = len(t)
    return n * math.log(max(residual, 1e-12) / n) + parameters * math.log(n)


def _linear(t: Floats, logs: Floats) -> tuple[float, float, float]:
    """Slope, residual and offset of the best `b (k + t)`, over a grid of offsets k."""
    best = (0.0, math.inf, 1.0)
    for offset in np.geomspace(0.5, 100.0 * (1.0 + t[-1]), 200):
        rest = logs - np.log(offset + t)
        residual = float(np.square(rest - rest.mean()).sum())
        if residual < best[1]:
            best = (math.exp(rest.mean()), residual, float(offset))
    return best


def _exponential(t: Floats, logs: Floats) -> tuple[float, float]:
    """Rate and residual of the best `a exp(b t)`."""
    rate, start = np.polyfit(t, logs, 1)
    return float(rate), float(np.square(logs - start - rate * t).sum())
