"""Speed and memory of `compare` beside one `np.abs(a - b).sum()` pass, and beside plain NumPy, in one run.

A comparison answers eight questions.  With `d = a - b` and `r = b`, each takes NumPy at least one pass over
both tensors, most of them a dearer one than the single pass; eight single passes are the measure:

    1 non-finite positions   np.isfinite of both
    2 mre                    np.abs(d).sum(), and that of r
    3 relative L2 error      np.square(d).sum(), and that of r
    4 local errors           np.abs(d) / np.maximum(np.abs(r), mean): argmax, and np.partition for p99, p99.9
    5 worst row              np.abs(d).sum(axis=(1, 2)), and that of r
    6 worst channel          np.abs(d).sum(axis=(0, 2)), and that of r
    7 violations             np.count_nonzero(np.abs(d) > atol + rtol * np.abs(r)), with atol from rms(r)
    8 element-wise mean      (np.abs(d) / (np.abs(r) + tiny)).mean()

`speed` is eight single passes over the time of the comparison (at least 0.6 is wanted), `memory` its peak
extra memory over the two tensors (at most 0.25 is wanted).  `plain` is what the eight cost in float64 on
whole arrays, with d and r computed once for all: as times the comparison's time, and over the two tensors.
The three take turns: after `plain` the allocator keeps enough memory that a single pass over up to some 4e6
elements pays for no fresh pages: it is then several times as fast as in a process that does nothing else.
The exit status is 1 where a tensor of 1e6 elements or more misses what is wanted.  Below, a single pass stays
in the processor's cache and fixed costs show, marked `*`: about 0.1 ms, and for tensors of up to 16,384
elements, one block, buffers of up to 0.5 MiB.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.command import arguments
from harness.comparison.compare import compare
from harness.precision import TOLERANCES, Precision

QUESTIONS = 8
LEAST_SPEED, MOST_MEMORY, JUDGED = 0.6, 0.25, 10**6
TOLERANCE = TOLERANCES[Precision.FP16]
HEAD = (
    f"{'dtype':8} {'elements':>10} {'one pass':>11} {'compare':>11} {'speed':>6} {'memory':>7}"
    f"   {'plain':>11} {'times':>6} {'memory':>7}"
)


def tensors(dtype: type, size: int) -> tuple[Any, Any]:
    """A pair in the shape of images or feature maps, a thousandth apart."""
    rng = np.random.default_rng(0)
    shape = (10, 10, size // 100)
    expected = rng.standard_normal(shape, dtype=np.float32)
    return (expected * np.float32(1.001)).astype(dtype), expected.astype(dtype)


def plain(actual: Any, expected: Any) -> tuple[float, ...]:
    """The eight answers from NumPy's operations on whole arrays, in float64."""
    odd = np.count_nonzero(np.isfinite(actual) != np.isfinite(expected))
    o, r = actual.astype(np.float64), expected.astype(np.float64)
    rms = np.sqrt(np.square(r).mean())
    d, r = np.abs(o - r), np.abs(r)
    rel_l2 = np.sqrt(np.square(d).sum() / np.square(r).sum())
    rows, channels = ((d.sum(axis=axes) / r.sum(axis=axes)).max() for axes in ((1, 2), (0, 2)))
    violations = (d > TOLERANCE.limit * (rms + r)).mean()
    local = (d / np.maximum(r, r.mean())).reshape(-1)
    worst = local[local.argmax()]
    places = [-(-q * local.size // 1000) - 1 for q in (990, 999)]
    p99, p999 = np.partition(local, places)[places]
    elementwise = (d / (r + np.finfo(np.float64).tiny)).mean()
    return odd, d.sum() / r.sum(), rel_l2, worst, p99, p999, rows, channels, violations, elementwise


def ours(actual: Any, expected: Any) -> tuple[float, ...]:
    """The eight answers of the comparison."""
    found = compare(actual, expected, TOLERANCE, precision=Precision.FP16).metrics
    assert found is not None
    assert found.worst_row is not None
    assert found.worst_channel is not None
    quantiles = found.max, found.p99, found.p999
    groups = found.worst_row.mre, found.worst_channel.mre
    rest = found.violations, found.elementwise_mean
    return (len(found.non_finite), found.mre, found.rel_l2, *quantiles, *groups, *rest)


def seconds(calls: tuple[Callable[[], object], ...], budget_s: float = 1.0) -> list[float]:
    """The best time of each call; they take turns, so that a busy machine touches all alike."""
    best = [float("inf")] * len(calls)
    end = time.perf_counter() + budget_s
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        for index, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[index] = min(best[index], time.perf_counter() - start)
        rounds += 1
    return best


def peak_bytes(call: Callable[[], object]) -> int:
    """The most memory that Python and NumPy held beyond what they held before."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@dataclass(frozen=True)
class Figures:
    """Times in seconds, memory over that of the two tensors."""

    dtype: str
    size: int
    one_pass_s: float
    compare_s: float
    compare_memory: float
    plain_s: float
    plain_memory: float

    @property
    def speed(self) -> float:
        """Eight single passes over the comparison's time."""
        return QUESTIONS * self.one_pass_s / self.compare_s

    @property
    def missed(self) -> bool:
        """Whether a tensor that is judged is too slow or takes too much."""
        return self.size >= JUDGED and (self.speed < LEAST_SPEED or self.compare_memory > MOST_MEMORY)

    def __str__(self) -> str:
        mark = "missed" if self.missed else "" if self.size >= JUDGED else "*"
        return (
            f"{self.dtype:8} {self.size:10} {self.one_pass_s * 1e3:9.3f}ms {self.compare_s * 1e3:9.3f}ms "
            f"{self.speed:6.2f} {self.compare_memory:7.3f}   {self.plain_s * 1e3:9.3f}ms "
            f"{self.plain_s / self.compare_s:6.1f} {self.plain_memory:7.3f} {mark}"
        ).rstrip()


def measure(dtype: type, size: int) -> Figures:
    """The figures of one pair of tensors, whose eight answers must agree."""
    pair = tensors(dtype, size)
    actual, expected = pair
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(ours(*pair), plain(*pair), rtol=1e-9)
        calls = (lambda: np.abs(actual - expected).sum(), lambda: ours(*pair), lambda: plain(*pair))
        single, whole, naive = seconds(calls)
    held = actual.nbytes + expected.nbytes
    memory = [peak_bytes(call) / held for call in calls[1:]]
    return Figures(np.dtype(dtype).name, size, single, whole, memory[0], naive, memory[1])


def main(largest: float) -> int:
    """Print all figures; 1 where one of a large tensor misses what is wanted."""
    print(HEAD)
    missed = False
    for dtype in (np.float32, np.float16, np.float64):
        for size in (10**n for n in range(4, 9) if 10**n <= largest):
            figures = measure(dtype, size)
            print(figures, flush=True)
            missed |= figures.missed
    return int(missed)


if __name__ == "__main__":
    told = {
        "nargs": "?",
        "type": float,
        "default": 1e8,
        "help": "elements of a tensor, at most (default: 1e8)",
    }
    sys.exit(main(arguments(__file__, __doc__, largest=told).largest))
