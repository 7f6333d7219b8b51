"""Speed and memory of `compare` beside a single `np.abs(a - b).sum()` pass, in one run.

    python benchmarks/compare.py [largest number of elements, default 1e8]

`compare` answers eight questions, each of which takes NumPy at least one such pass: non-finite positions,
mre, relative L2 error, local error (largest, p99, p99.9), worst row, worst channel, violations, element-wise
mean.  Printed are `times`, the time of the whole comparison over that of one pass; `speed`, eight over it
(1 is eight such passes, the target is at least 0.6); and `memory`, peak extra memory over the two tensors
(the target is at most 0.25).  Below about 1e6 elements a single pass stays in the processor's cache, and
`speed` and `memory` show the price of NumPy calls and of the fixed buffers, well under 1 ms and 1 MiB.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.compare import compare
from harness.precision import TOLERANCES, Precision

QUESTIONS = 8
HEAD = (
    f"{'dtype':8} {'elements':>10} {'one pass':>10} {'compare':>10} {'times':>7} {'speed':>6} {'memory':>7}"
)


def tensors(dtype: type, size: int) -> tuple[Any, Any]:
    """A pair in the shape of images or feature maps, a thousandth apart."""
    rng = np.random.default_rng(0)
    shape = (10, 10, size // 100)
    expected = rng.standard_normal(shape, dtype=np.float32)
    return (expected * np.float32(1.001)).astype(dtype), expected.astype(dtype)


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
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def line(dtype: type, size: int) -> str:
    actual, expected = tensors(dtype, size)
    tolerance = TOLERANCES[Precision.FP16]

    def one_pass() -> None:
        with np.errstate(over="ignore"):
            np.abs(actual - expected).sum()

    def whole() -> None:
        compare(actual, expected, tolerance, precision=Precision.FP16)

    single, ours = seconds((one_pass, whole))
    memory = peak_bytes(whole) / (actual.nbytes + expected.nbytes)
    figures = (
        f"{single * 1e3:8.3f}ms {ours * 1e3:8.3f}ms {ours / single:7.1f} {QUESTIONS * single / ours:6.2f}"
    )
    return f"{np.dtype(dtype).name:8} {size:10} {figures} {memory:7.3f}"


def main(largest: int) -> None:
    print(HEAD)
    for dtype in (np.float32, np.float16, np.float64):
        for size in (10**n for n in range(4, 9) if 10**n <= largest):
            print(line(dtype, size), flush=True)


if __name__ == "__main__":
    main(int(float(sys.argv[1])) if len(sys.argv) > 1 else 10**8)
