"""When a latency has changed: significance and size together, by pure rules over blocks of samples.

1. A run is its blocks' figures (`figures`: the median of a round, say).  Samples of one round resemble each
   other, so they are never counted one by one; blocks are, in a one-sided Mann-Whitney test with p < `alpha`.
2. Rounds of one run share the machine's state (clocks, neighbours, memory layout), which the test
   cannot see.  So a change must also exceed max(`min_effect`, `cov_factor` x run-to-run CoV), where the
   factor grows as fewer runs are known: it is that of a prediction interval (Student's t, `sure`).
3. The run-to-run CoV starts from `assumed_cov`, which weighs as much as `assumed_runs` runs, and is
   replaced by what the baseline's runs show as there are more of them: few runs understate their own
   spread.  Seven runs or more, oldest first, are held against their own line (Theil-Sen), not their middle:
   a latency that creeps must not widen the noise that hides it.  New runs start from what the baseline
   shows, so they can only widen it: those measured again in one run share its state.  The standard error
   within a run is joined to it.
4. With several new runs each of them must show the change: a machine that was slow once is no regression.
5. Interleaved runs shared the machine's state round by round: their blocks are compared pair by pair, in
   a Wilcoxon signed-rank test of the pairs' ratios, and the CoV is the standard error of these; runs
   measured again add pairs, and rule 4 does not apply.

Noise too wide to see what matters is said (`smallest_effect`), never gated away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

Run = Sequence[float]
Finding = Literal["same", "slower", "faster", "undecided"]
MAD_TO_SD = 1.4826
MEDIAN_TO_MEAN = 1.2533
"""Standard error of a median over that of a mean, for normal data (sqrt(pi / 2))."""
LINE_RUNS = 7
"""Runs from which on they are held against their own line."""


@dataclass(frozen=True)
class Gate:
    """The bounds of the gate; effects and CoV are fractions.

    `strict`: a single run of a baseline may fail another, although it says nothing of the run-to-run CoV.
    """

    alpha: float = 0.01
    min_effect: float = 0.03
    cov_factor: float = 3.0
    assumed_cov: float = 0.015
    assumed_runs: int = 4
    sure: float = 0.995
    strict: bool = False

    def factor(self, runs: int) -> float:
        """How many CoV a change must exceed where `runs` of a baseline are known."""
        if runs < 2 or not self.cov_factor:
            return self.cov_factor
        return max(
            self.cov_factor, _student(self.sure, self.assumed_runs + runs - 1) * math.sqrt(1 + 1 / runs)
        )


@dataclass(frozen=True)
class Change:
    """How a latency changed: `effect` is new / base - 1, `p` that of the side it fell on."""

    finding: Finding
    base_s: float
    new_s: float
    effect: float
    smallest_effect: float
    cov: float
    p: float
    why: str

    def to_json(self) -> dict[str, Any]:
        """The change as JSON-ready data."""
        return dict(self.__dict__)


DEFAULT_GATE = Gate()


def compare(
    base: Sequence[Run], new: Sequence[Run], gate: Gate = DEFAULT_GATE, *, paired: bool = False
) -> Change:
    """The change from `base` to `new`, each one or more runs of blocks' figures in seconds, oldest first.

    `paired` is for interleaved runs, as many on either side, block i beside block i.  Raises UsageError
    where their blocks do not pair.
    """
    old_s, new_s = _middle(base), _middle(new)
    blocks = _flat(base), _flat(new)
    effect, cov = _paired(*blocks) if paired else (new_s / old_s - 1, _joint_cov(base, new, gate))
    smallest = max(gate.min_effect, cov * (gate.cov_factor if paired else gate.factor(len(base))))
    p, least = (_signed_rank if paired else _mann_whitney)(*blocks, slower=effect > 0)
    finding, why = _judge(effect, smallest, p, least, gate)
    if finding in ("slower", "faster") and not (paired or _in_every_run(new, old_s, effect, gate)):
        finding, why = "same", f"{effect:+.1%}, but not in each of {len(new)} runs"
    return Change(finding, old_s, new_s, effect, smallest, cov, p, why)


def holm(changes: Sequence[Change], gate: Gate = DEFAULT_GATE) -> list[Change]:
    """`changes` of several figures of one case, where one that is significant by itself alone is none.

    Holm's step-down correction: the k-th smallest of m p-values must be below alpha / (m - k).
    """
    ranked = sorted(range(len(changes)), key=lambda i: changes[i].p)
    kept, found = True, list(changes)
    for k, i in enumerate(ranked):
        kept = kept and changes[i].p < gate.alpha / (len(changes) - k)
        if not kept and changes[i].finding in ("slower", "faster"):
            why = f"{changes[i].effect:+.1%} is not significant among {len(changes)} figures"
            found[i] = replace(changes[i], finding="same", why=f"{why} (p = {changes[i].p:.2g})")
    return found


def noise_of(runs: Sequence[Run], gate: Gate) -> Gate:
    """`gate` for one run against one other, in the run-to-run CoV that `runs` show."""
    factor = gate.factor(len(runs)) if len(runs) > 1 else gate.cov_factor
    assumed = _between(runs, gate) if runs else gate.assumed_cov
    return replace(gate, assumed_cov=assumed, cov_factor=factor * math.sqrt(2))


def run_cov(runs: Sequence[Run], gate: Gate) -> float:
    """Run-to-run coefficient of variation, a fraction: rule 3."""
    within = float(np.median([_standard_error(np.asarray(run)) for run in runs]))
    return math.hypot(_between(runs, gate), within)


def _joint_cov(base: Sequence[Run], new: Sequence[Run], gate: Gate) -> float:
    known = replace(gate, assumed_cov=_between(base, gate))
    return max(run_cov(base, gate), run_cov(new, known))


def _between(runs: Sequence[Run], gate: Gate) -> float:
    """CoV of the runs' medians, the assumed one among them."""
    middles = np.array([np.median(run) for run in runs])
    line, fitted = (_line(middles), 2) if len(runs) >= LINE_RUNS else (np.median(middles), 1)
    seen = float(np.sum((middles / line - 1) ** 2))
    known = gate.assumed_runs + len(runs) - fitted
    return math.sqrt((gate.assumed_runs * gate.assumed_cov**2 + seen) / known)


def _line(middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Theil-Sen line through runs in a row (median of all slopes, then of all heights)."""
    place = np.arange(len(middles))
    first, second = np.triu_indices(len(middles), 1)
    slope = np.median((middles[second] - middles[first]) / (second - first))
    line: NDArray[np.float64] = slope * place + np.median(middles - slope * place)
    return np.maximum(line, np.min(middles))


@lru_cache(maxsize=64)
def _student(share: float, freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(share, freedom))


def _in_every_run(new: Sequence[Run], old_s: float, effect: float, gate: Gate) -> bool:
    changes = [float(np.median(run)) / old_s - 1 for run in new]
    return all(math.copysign(1.0, effect) * change > gate.min_effect for change in changes)


def _judge(effect: float, smallest: float, p: float, least: float, gate: Gate) -> tuple[Finding, str]:
    if abs(effect) <= smallest:
        return "same", f"{effect:+.1%} is within {smallest:.1%}"
    if least >= gate.alpha:
        return "undecided", f"{effect:+.1%}, but with so few rounds p cannot be below {least:.2g}"
    if p >= gate.alpha:
        return "same", f"{effect:+.1%} is not significant (p = {p:.2g})"
    return ("slower" if effect > 0 else "faster"), f"{effect:+.1%} is beyond {smallest:.1%} (p = {p:.1g})"


def _paired(base: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[float, float]:
    """Median of the pairs' ratios less 1, and its standard error."""
    if len(base) != len(new):
        raise UsageError(f"interleaved rounds do not pair: {len(base)} beside {len(new)}")
    ratios = new / base
    return float(np.median(ratios)) - 1, _standard_error(ratios)


def _standard_error(values: NDArray[np.float64]) -> float:
    """Relative standard error of the median of a series, counting neighbours that move together once."""
    middle = float(np.median(values))
    spread = MAD_TO_SD * float(np.median(np.abs(values - middle))) / middle
    return MEDIAN_TO_MEAN * spread / math.sqrt(_independent(values))


def _independent(values: NDArray[np.float64]) -> float:
    """Effective number of independent values under first-order autocorrelation."""
    off = values - values.mean()
    power = float(off @ off)
    together = float(off[1:] @ off[:-1]) / power if power > 0 else 0.0
    together = min(max(together, 0.0), 0.9)
    return max(1.0, len(values) * (1 - together) / (1 + together))


def _mann_whitney(
    base: NDArray[np.float64], new: NDArray[np.float64], *, slower: bool
) -> tuple[float, float]:
    """p of a shift to the side asked for, and the least p that so many blocks can give."""
    from scipy.stats import mannwhitneyu

    side: Literal["greater", "less"] = "greater" if slower else "less"
    p = float(mannwhitneyu(new, base, alternative=side).pvalue)
    return p, 1 / math.comb(len(base) + len(new), len(base))


def _signed_rank(base: NDArray[np.float64], new: NDArray[np.float64], *, slower: bool) -> tuple[float, float]:
    """p of a shift of the pairs to the side asked for, and the least p that so many pairs can give."""
    from scipy.stats import wilcoxon

    side: Literal["greater", "less"] = "greater" if slower else "less"
    shifts = np.log(new / base)
    p = float(wilcoxon(shifts, alternative=side).pvalue) if shifts.any() else 1.0
    return p, 0.5 ** len(shifts)


def _middle(runs: Sequence[Run]) -> float:
    return float(np.median([np.median(run) for run in runs]))


def _flat(runs: Sequence[Run]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(run, float) for run in runs])
