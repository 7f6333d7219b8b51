"""From a histogram of magnitudes to the range that INT8 codes cover, by four methods."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.calibration.histogram import Histogram

LEVELS = 128
"""Magnitudes that symmetric INT8 tells apart: 0 to 127."""
CODES = LEVELS - 1
ENTROPY_BINS = 2048
"""As TensorRT's; with finer bins the noise of small counts passes for information: too much is clipped."""
ENTROPY_STEPS = 512
"""Thresholds tried over the range of the data; a finer step is below half a code of the result."""
MSE_CANDIDATES = 128
MSE_SMALLEST = 1 / 64

Floats = NDArray[np.floating[Any]]


def range_of(histogram: Histogram, method: str, percentile: float = 99.99) -> float:
    """The largest magnitude that INT8 should represent; 0 for a tensor without any value but zero.

    `method`: "minmax", "percentile", "entropy" or "mse".
    """
    if histogram.maximum == 0.0:
        return 0.0
    if method == "percentile":
        # A tensor may be zero nearly everywhere: a range of 0 would erase all that it says.
        return percentile_range(histogram, percentile) or histogram.maximum
    found = {"minmax": minmax_range, "entropy": entropy_range, "mse": mse_range}[method](histogram)
    return min(found, histogram.maximum)


def minmax_range(histogram: Histogram) -> float:
    """The largest magnitude."""
    return histogram.maximum


def percentile_range(histogram: Histogram, percentile: float) -> float:
    """The percentile of all magnitudes, zeros included: `numpy.percentile`'s, within one bin's width."""
    place = percentile / 100 * (histogram.total - 1)
    below, share = int(place), place - int(place)
    low = _order_statistic(histogram, below)
    high = _order_statistic(histogram, below + 1) if share else low
    return min(low + share * (high - low), histogram.maximum)


def _order_statistic(histogram: Histogram, rank: int) -> float:
    """About the value of rank `rank`, from 0, as if the values of a bin lay evenly in it."""
    if rank < histogram.zeros:
        return 0.0
    counts = histogram.counts
    filled = np.cumsum(counts)
    rank -= histogram.zeros
    k = int(np.searchsorted(filled, rank, side="right"))
    inside = rank - int(filled[k] - counts[k])
    return (k + (inside + 0.5) / int(counts[k])) * histogram.width


def entropy_range(histogram: Histogram) -> float:
    """The threshold whose 128 levels lose the least information about the distribution (KL divergence).

    The reference distribution is clipped: what lies beyond the threshold counts in its last bin.  Exact zeros
    are left out, since every threshold keeps them exactly.  Method: S. Migacz, "8-bit inference with
    TensorRT", GTC 2017, s7310.
    """
    merged = len(histogram.counts) // ENTROPY_BINS
    used = -(-histogram.used // merged)
    if used <= LEVELS:
        return histogram.maximum
    counts = histogram.counts.reshape(-1, merged).sum(axis=1)[:used].astype(np.float64)
    thresholds = np.arange(used, LEVELS - 1, -max(1, used // ENTROPY_STEPS))
    best = thresholds[np.argmin(divergences(counts, thresholds))]
    return float(best) * merged * histogram.width


def divergences(counts: Floats, thresholds: NDArray[np.intp]) -> Floats:
    """KL divergence of each clipped distribution from its 128-level form; thresholds are numbers of bins.

    Level l of threshold t spans the bins from l * t // 128 and shares its mass evenly among those that are
    not empty.  Sums over bins come from prefix sums, so that a threshold costs 128 steps and not t.
    """
    edges = thresholds[:, None] * np.arange(LEVELS + 1) // LEVELS
    mass = np.diff(_prefix(counts)[edges], axis=1)
    filled = np.diff(_prefix(counts > 0)[edges], axis=1)
    outside = counts.sum() - counts.cumsum()[thresholds - 1]
    last = counts[thresholds - 1]
    filled[:, -1] += (last == 0) & (outside > 0)
    density = np.log(np.where(mass > 0, mass, 1.0) / np.maximum(filled, 1))
    cross = (mass * density).sum(axis=1) + outside * density[:, -1]
    own = _prefix(_xlogx(counts))[thresholds] - _xlogx(last) + _xlogx(last + outside)
    total = counts.sum()
    # What lies outside counts in the last level: if that is empty inside, its form has no mass there.
    impossible = (outside > 0) & (mass[:, -1] == 0)
    inside = np.where(total > outside, total - outside, total)
    divergence = (own - cross) / total - np.log(total) + np.log(inside)
    return np.asarray(np.where(impossible, np.inf, divergence))


def _prefix(values: NDArray[Any]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _xlogx(values: Floats) -> Floats:
    return values * np.log(np.where(values > 0, values, 1.0))


def mse_range(histogram: Histogram) -> float:
    """The range with the least mean squared error of symmetric 8-bit rounding and clipping.

    Candidates are spaced geometrically from 1/64 of the largest magnitude to all of it.
    """
    candidates = np.geomspace(histogram.maximum, histogram.maximum * MSE_SMALLEST, MSE_CANDIDATES).astype(
        np.float64
    )
    edges = np.arange(histogram.used + 1) * histogram.width
    errors = squared_errors(histogram.counts[: histogram.used].astype(np.float64), edges, candidates)
    return float(candidates[np.argmin(errors)])


def squared_errors(counts: Floats, edges: Floats, ranges: Floats) -> Floats:
    """Sum of squared errors of each range, with the values of a bin spread evenly over it."""
    steps = ranges[:, None] / CODES
    scaled = edges / steps
    code = np.minimum(np.rint(scaled), CODES)
    # Integral from 0 of the squared distance to the nearest code: step**3 / 12 for every whole code passed.
    integral = steps**3 * (code / 12 + (scaled - code) ** 3 / 3)
    return np.asarray(np.diff(integral, axis=1) @ counts / np.diff(edges)[0], np.float64)
