"""A latency that creeps: a little slower each night, never enough to be seen from one night to the next.

The runs of a baseline and the newest, oldest first, are held against time: the Theil-Sen slope with its
interval, and Kendall's test of order.  It creeps where the order is significant (p < `alpha`), and the
slope's lower bound over all runs exceeds the smallest change that counts.

Source: H. Theil 1950, P. K. Sen 1968 (slope and interval); M. G. Kendall 1938 (order).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.gate import DEFAULT_GATE, Gate

LEAST_RUNS = 5
"""Fewer cannot be in order by less than one chance in a hundred."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Creep:
    """Growth over all runs (`effect`) and of one run to the next (`each`), fractions; `p` of the order."""

    effect: float
    each: float
    p: float
    runs: int

    def __str__(self) -> str:
        grown = f"{self.effect:+.1%} over {self.runs} runs, {self.each:+.1%} each"
        return f"creeps: {grown} (p = {self.p:.1g})"


def creeping(levels: Sequence[float], gate: Gate = DEFAULT_GATE) -> Creep | None:
    """How `levels`, one for each run in seconds, oldest first, creep upwards; None where they do not."""
    if len(levels) < LEAST_RUNS:
        return None
    from scipy.stats import kendalltau, theilslopes

    place, heights = np.arange(len(levels)), np.log(np.asarray(levels, float))
    if not np.ptp(heights):
        return None
    p = float(kendalltau(place, heights, alternative="greater").pvalue)
    slope, _, low, _ = theilslopes(heights, place, CONFIDENCE)
    span = len(levels) - 1
    effect, surely = math.expm1(slope * span), math.expm1(low * span)
    if not (p < gate.alpha and surely > gate.min_effect and effect > gate.min_effect):
        return None
    return Creep(effect, math.expm1(slope), p, len(levels))
