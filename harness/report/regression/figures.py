"""The figures of a latency that are gated, each from blocks of its rounds, with bounds of its own.

A quantile needs as many samples as it leaves out one of, a few times over: rounds are joined into blocks of
at least `least` samples.  A figure with fewer than `BLOCKS` blocks is not gated: nothing can be said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from harness.latency.samples import Latency
from harness.report.gate import Gate

BLOCKS = 5
"""The fewest blocks of one run that a test of significance is made of."""


@dataclass(frozen=True)
class Figure:
    """How a block becomes a number, how many samples a block needs, and how much of a change is one.

    `min_effect` and `assumed_cov` are those of `Gate`, times the median's: tails move more from run to run.
    """

    of: Callable[[Sequence[float]], float]
    least: int = 1
    coarser: float = 1.0

    def blocks(self, latency: Latency) -> list[float]:
        """The figure of each block, in order."""
        return [self.of(block) for block in joined(latency.rounds_s, self.least)]

    def gate(self, gate: Gate) -> Gate:
        """The bounds for this figure."""
        by = self.coarser
        return replace(gate, min_effect=by * gate.min_effect, assumed_cov=by * gate.assumed_cov)


def _quantile(share: float) -> Callable[[Sequence[float]], float]:
    return lambda block: float(np.quantile(block, share))


FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "p50_s": Figure(_quantile(0.5)),
        "mean_s": Figure(lambda block: float(np.mean(block)), coarser=1.5),
        "p90_s": Figure(_quantile(0.9), least=20, coarser=2.0),
        "p99_s": Figure(_quantile(0.99), least=100, coarser=8.0),
    }
)
"""By the name under which a record and a difference hold it."""


def joined(rounds: Sequence[Sequence[float]], least: int) -> list[Sequence[float]]:
    """Rounds in a row joined until each block has `least` samples; what is left at the end joins the last."""
    blocks: list[list[float]] = [[]]
    for one in rounds:
        if len(blocks[-1]) >= least:
            blocks.append([])
        blocks[-1] += one
    if len(blocks) > 1 and len(blocks[-1]) < least:
        rest = blocks.pop()
        blocks[-1] += rest
    return [block for block in blocks if len(block) >= least]
