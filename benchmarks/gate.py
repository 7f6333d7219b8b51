"""What the latency gate makes of 14 kinds of series: false alarms, slowdowns found, creep over nights.

    python -m benchmarks.gate [PAIRS]

Five runs of a baseline and a new one are simulated, and two runs measured in turn; the new one as it is, and
slowed by 5 % and by 10 %.  The last rows are nights in a row, steady and creeping, each held against those
before it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import arguments, count
from harness.latency.samples import Latency
from harness.report.gate import DEFAULT_GATE
from harness.report.regression.creep import creeping
from harness.report.regression.latency import changes_of

ROUNDS, SAMPLES = 40, 25
COUNT = ROUNDS * SAMPLES
RUNS, NIGHTS = 5, 30
Array = NDArray[np.float64]
Kind = Callable[[np.random.Generator, int], Array]


def wide(rng: np.random.Generator, spread: float) -> Array:
    """Log-normal samples."""
    return np.asarray(np.exp(rng.normal(0, spread, COUNT)))


def correlated(rng: np.random.Generator, _night: int) -> Array:
    """Rounds that move together."""
    steps, level = rng.normal(0, 0.004, ROUNDS), np.empty(ROUNDS)
    level[0] = steps[0] / 0.6
    for k in range(1, ROUNDS):
        level[k] = 0.8 * level[k - 1] + steps[k]
    return np.exp(np.repeat(level, SAMPLES)) * wide(rng, 0.01)


def coarse(rng: np.random.Generator, _night: int) -> Array:
    """A clock that counts tenths of what is measured."""
    return np.maximum(0.1, np.round((wide(rng, 0.02) + rng.uniform(-0.05, 0.05, COUNT)) / 0.1) * 0.1)


def bursts(rng: np.random.Generator, _night: int) -> Array:
    """Neighbours that come and go."""
    times = wide(rng, 0.01)
    for _ in range(rng.poisson(3)):
        start, length = rng.integers(COUNT), int(rng.exponential(60))
        times[start : start + length] *= 1 + rng.uniform(0.2, 1)
    return times


def pauses(rng: np.random.Generator, _night: int) -> Array:
    """One call in a hundred that takes many times as long."""
    times = wide(rng, 0.01)
    times[rng.random(COUNT) < 0.01] *= rng.uniform(5, 10)
    return times


KINDS: dict[str, Kind] = {
    "steady": lambda rng, _: wide(rng, 0.005),
    "skewed": lambda rng, _: np.exp(np.abs(rng.normal(0, 0.05, COUNT))),
    "heavy tails": lambda rng, _: 1 + 0.01 * np.abs(rng.standard_t(2, COUNT)),
    "correlated": correlated,
    "shifted": lambda rng, _: np.exp(rng.normal(0, 0.007)) * wide(rng, 0.01),
    "restless": lambda rng, _: np.exp(rng.normal(0, 0.015)) * wide(rng, 0.02),
    "two kinds of process": lambda rng, _: (1 + 0.04 * (rng.random() < 0.5)) * wide(rng, 0.005),
    "two speeds": lambda rng, _: np.where(rng.random(COUNT) < 0.5, 1, 1.3) * wide(rng, 0.01),
    "coarse clock": coarse,
    "drifting": lambda rng, _: np.exp(np.linspace(0, rng.normal(0, 0.02), COUNT)) * wide(rng, 0.01),
    "bursts": bursts,
    "three hosts": lambda rng, _: (1, 1.02, 0.985)[rng.integers(3)] * wide(rng, 0.01),
    "weekly": lambda rng, k: np.exp(0.01 * np.sin(2 * np.pi * (k + rng.random()) / 7)) * wide(rng, 0.01),
    "pauses": pauses,
}


def latency(times: Array) -> Latency:
    """A run of a call of a millisecond."""
    return Latency(tuple((1e-3 * times).tolist()), (SAMPLES,) * ROUNDS)


def slower(base: list[Latency], new: list[Latency], *, paired: bool = False) -> list[str]:
    """The figures that are found slower."""
    found = changes_of((base, new), DEFAULT_GATE, paired=paired)
    return [name for name, change in found.items() if change.finding == "slower"]


def night(kind: Kind, rng: np.random.Generator, slowdown: float) -> list[str]:
    """A run against five before it."""
    base = [latency(kind(rng, k)) for k in range(RUNS)]
    return slower(base, [latency(kind(rng, RUNS) * slowdown)])


def in_turn(kind: Kind, rng: np.random.Generator, slowdown: float) -> list[str]:
    """Two runs that share the machine round by round."""
    state = rng.integers(2**32)
    both = [kind(np.random.default_rng(state), 0).reshape(ROUNDS, SAMPLES) for _ in range(2)]
    own = both[1] * wide(rng, 0.01).reshape(ROUNDS, SAMPLES) * slowdown
    return slower([latency(both[0].ravel())], [latency(own.ravel())], paired=True)


def first_told(growth: float, rng: np.random.Generator, noise: float = 0.007) -> int | None:
    """The night in which creep is told, of `NIGHTS` that grow by `growth` each; the last ten are kept."""
    levels = [1e-3 * (1 + growth) ** k * float(np.exp(rng.normal(0, noise))) for k in range(NIGHTS)]
    for k in range(1, NIGHTS):
        kept = [levels[0], *levels[max(1, k - 9) : k + 1]] if k > 10 else levels[: k + 1]
        if creeping(kept):
            return k
    return None


def main(pairs: int) -> int:
    """Print the table; 1 where a target is missed."""
    print(f"{'kind':22}{'false alarms':>14}{'in turn':>9}{'+5 %':>8}{'in turn':>9}{'+10 %':>8}{'in turn':>9}")
    alarms = 0.0
    for name, kind in KINDS.items():
        row: list[Any] = []
        for slowdown in (1.0, 1.05, 1.1):
            for judge in (night, in_turn):
                rng = np.random.default_rng(1)
                row.append(sum(bool(judge(kind, rng, slowdown)) for _ in range(pairs)) / pairs)
        alarms = max(alarms, *row[:2])
        print(
            f"{name:22}{row[0]:14.1%}{row[1]:9.1%}{row[2]:8.1%}{row[3]:9.1%}{row[4]:8.1%}{row[5]:9.1%}",
            flush=True,
        )
    rng = np.random.default_rng(2)
    for growth in (0.0, 0.01, 0.025):
        told = [first_told(growth, rng) for _ in range(pairs)]
        seen = [k for k in told if k is not None]
        middle = f", in the median in night {int(np.median(seen))}" if seen else ""
        print(f"{NIGHTS} nights, {growth:+.1%} each: creep told in {len(seen) / pairs:.1%}{middle}")
    return int(alarms > 0.01 + 1 / pairs)


if __name__ == "__main__":
    text = "pairs of runs of each kind (default: 200)"
    pairs = {"type": count, "nargs": "?", "default": 200, "metavar": "PAIRS", "help": text}
    sys.exit(main(arguments(__file__, __doc__, pairs=pairs).pairs))
