"""`auto`: every method is tried on samples that did not set its ranges, and the best is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.backends.runner import Tensors
from harness.calibration.histogram import Histogram
from harness.calibration.methods import range_of
from harness.calibration.model import Choice, Judge
from harness.data.samples import Part
from harness.lowering.model import Ranges

PERCENTILES = (99.9, 99.99, 99.999)
HELD_OUT_SHARE = 4
"""One sample in four is held out, at least one."""


def split(feeds: Iterable[Tensors], samples: int) -> tuple[Part, Part, tuple[str, ...]]:
    """Samples that set ranges, samples that judge them, and a warning if they must be the same."""
    if samples == 1:
        whole = Part(feeds, 0, 1)
        return whole, whole, ("auto: one sample both sets and judges the ranges",)
    cut = samples - max(1, samples // HELD_OUT_SHARE)
    return Part(feeds, 0, cut), Part(feeds, cut, samples), ()


def candidates(percentile: float) -> list[tuple[str, float | None]]:
    """Methods with their percentile, the asked one among them."""
    percentiles = sorted({*PERCENTILES, percentile})
    return [("minmax", None), *(("percentile", p) for p in percentiles), ("entropy", None), ("mse", None)]


def choose(
    histograms: Mapping[str, Histogram], percentile: float, judge: Judge
) -> tuple[Ranges, tuple[Choice, ...]]:
    """The ranges that `judge` finds best, and every choice, best first; of equals the first tried."""
    measured = []
    for method, p in candidates(percentile):
        ranges = {name: range_of(histogram, method, p or 100.0) for name, histogram in histograms.items()}
        measured.append((Choice(method, p, judge(ranges)), ranges))
    measured.sort(key=lambda pair: pair[0].mre)
    return measured[0][1], tuple(choice for choice, _ in measured)
