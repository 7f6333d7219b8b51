"""What our timing loop costs for a call of about 20 microseconds, beside plain pytest-benchmark.

    python -m benchmarks.timing_overhead

The four loops run in turn in short blocks, in another order each time, so that a busy machine touches all
alike.  Printed are the median over blocks of the wall time relative to the bare loop of the same block
(which reads no clock), and p99 of all samples relative to a hand-written pair of clock readings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import pytest

from harness.latency import measure

BLOCKS = 1000
CALLS = 60
FEEDS = [np.full(8, float(i)) for i in range(4)]
ratios: dict[str, list[float]] = {}
samples_of: dict[str, list[float]] = {}


def sized_call(target_s: float = 20e-6) -> Callable[[object], int]:
    """A call of pure Python work that takes about `target_s` here."""
    count = 500
    for _ in range(20):
        times = []
        for _ in range(400):
            start = time.perf_counter()
            sum(range(count))
            times.append(time.perf_counter() - start)
        count = max(10, int(count * target_s / median(times)))
    return lambda _feed: sum(range(count))


CALL = sized_call()


def turns() -> Iterator[object]:
    return iter([FEEDS[i % len(FEEDS)] for i in range(CALLS)])


def bare() -> None:
    for feed in turns():
        CALL(feed)


def by_hand() -> list[int]:
    samples = [0] * CALLS
    for i, feed in enumerate(turns()):
        start = time.perf_counter_ns()
        CALL(feed)
        samples[i] = time.perf_counter_ns() - start
    return samples


def wall(run: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


@pytest.mark.parametrize("block", range(BLOCKS))
def test_block(benchmark: object, block: int) -> None:
    loops: dict[str, Callable[[], object]] = {
        "bare": bare,
        "by hand": by_hand,
        "ours": lambda: measure.timed(CALL, turns(), time.perf_counter_ns),
        "pytest-benchmark": lambda: benchmark.pedantic(CALL, args=(FEEDS[0],), rounds=CALLS),  # type: ignore[attr-defined]
    }
    names = list(loops)
    turn = block % len(names)
    took = {name: wall(loops[name]) for name in names[turn:] + names[:turn]}
    took["pytest-benchmark"] = (took["pytest-benchmark"][0], [s * 1e9 for s in benchmark.stats.stats.data])  # type: ignore[attr-defined]
    for name, (seconds, samples) in took.items():
        ratios.setdefault(name, []).append(seconds / took["bare"][0])
        if samples is not None:
            samples_of.setdefault(name, []).extend(samples)  # type: ignore[arg-type]


def test_figures(capsys: pytest.CaptureFixture[str]) -> None:
    p99 = {name: float(np.quantile(samples, 0.99)) for name, samples in samples_of.items()}
    typical = median(samples_of["by hand"]) / 1e3
    with capsys.disabled():
        print(f"\n{typical:.1f} us per call, {BLOCKS} blocks of {CALLS} calls")
        for name in ratios:
            tail = f"{p99[name] / p99['by hand']:.3f}" if name in p99 else "-"
            print(f"{name:>17}: wall {median(ratios[name]):.3f} x bare, p99 {tail} x by hand")
    assert median(ratios["ours"]) <= 1.02
    assert abs(p99["ours"] / p99["by hand"] - 1) <= 0.10


class NoTable:
    """Keeps pytest-benchmark's table of every block out of the way of the figures."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_benchmark_group_stats(self) -> list[object]:
        return []


if __name__ == "__main__":
    from benchmarks.command import arguments

    arguments(__file__, __doc__)
    # The harness is imported before pytest can rewrite its plugin's assertions, of which there are none.
    quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider")
    sys.exit(pytest.main([__file__, "-q", *quiet], plugins=[NoTable()]))
