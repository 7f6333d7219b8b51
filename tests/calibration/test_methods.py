"""Ranges from histograms, against oracles that work on the data itself or spell the definition out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.calibration.histogram import Histogram
from harness.calibration.methods import (
    CODES,
    LEVELS,
    divergences,
    entropy_range,
    mse_range,
    percentile_range,
    range_of,
    squared_errors,
)

ARRAYS = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32))


def histogram_of(data: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(data)
    return histogram


def long_tailed(seed: int = 0, size: int = 20000) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(2, size).astype(np.float32)


def brute_divergence(counts: np.ndarray, threshold: int) -> float:
    """KL divergence with the two distributions written out bin by bin."""
    inside = counts[:threshold].astype(float)
    p = inside.copy()
    p[-1] += counts[threshold:].sum()
    q = np.zeros(threshold)
    for level in range(LEVELS):
        first, stop = level * threshold // LEVELS, (level + 1) * threshold // LEVELS
        filled = p[first:stop] > 0
        if filled.any():
            q[first:stop][filled] = inside[first:stop].sum() / filled.sum()
    if not q.sum():
        return np.inf
    return float(scipy.stats.entropy(p, q))


def mean_squared_error(data: np.ndarray, limit: float) -> float:
    step = limit / CODES
    codes = np.clip(np.rint(data.astype(float) / step), -CODES, CODES)
    return float(np.mean((codes * step - data) ** 2))


@given(ARRAYS, st.floats(50.1, 100))
def test_percentile_is_numpys_within_a_bin(data: np.ndarray, percentile: float) -> None:
    histogram = histogram_of(data)
    expected = np.percentile(np.abs(data).astype(float), percentile)
    assert percentile_range(histogram, percentile) == pytest.approx(expected, rel=0, abs=histogram.width)


def test_percentile_oracle_fails_for_the_maximum() -> None:
    data = long_tailed()
    histogram = histogram_of(data)
    assert abs(histogram.maximum - np.percentile(np.abs(data), 99)) > histogram.width


@given(ARRAYS)
def test_minmax_is_the_largest_magnitude(data: np.ndarray) -> None:
    assert range_of(histogram_of(data), "minmax") == np.abs(data).max()


COUNTS = hnp.arrays(
    np.int64, st.integers(LEVELS, 700), elements=st.sampled_from([0, 0, 0, 1, 2, 50, 10**6])
).filter(np.any)


@settings(deadline=None)
@given(COUNTS, st.data())
def test_divergence_is_that_of_the_spelled_out_distributions(counts: np.ndarray, data: st.DataObject) -> None:
    thresholds = np.array(data.draw(st.lists(st.integers(LEVELS, counts.size), min_size=1, max_size=5)))
    found = divergences(counts.astype(float), thresholds)
    expected = [brute_divergence(counts, t) for t in thresholds]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_divergence_oracle_fails_without_the_outliers() -> None:
    counts = np.ones(400)
    counts[-1] = 1000
    whole, cut = divergences(counts, np.array([300]))[0], brute_divergence(counts[:300], 300)
    assert whole != pytest.approx(cut, rel=1e-3)


def test_entropy_clips_a_long_tail_and_keeps_a_uniform_range() -> None:
    tail = histogram_of(long_tailed(size=200_000))
    assert entropy_range(tail) < 0.7 * tail.maximum
    uniform = histogram_of(np.linspace(-1, 1, 200_001, dtype=np.float32))
    assert range_of(uniform, "entropy") == pytest.approx(1.0, rel=0.02)


def test_entropy_ignores_exact_zeros() -> None:
    data = long_tailed()
    with_zeros = np.concatenate([data, np.zeros(10 * data.size, np.float32)])
    assert entropy_range(histogram_of(with_zeros)) == entropy_range(histogram_of(data))


@given(
    hnp.arrays(np.int64, 40, elements=st.integers(0, 5)).filter(np.any),
    st.floats(0.3, 3.0),
)
def test_squared_error_is_the_integral_of_the_definition(counts: np.ndarray, limit: float) -> None:
    edges = np.linspace(0, 2.0, 41)
    offsets = (np.arange(2000) + 0.5) / 2000 * 0.05
    points = (edges[:-1, None] + offsets).ravel()
    step = limit / CODES
    error = (np.minimum(np.rint(points / step), CODES) * step - points) ** 2
    expected = counts @ error.reshape(40, -1).mean(axis=1)
    assert squared_errors(counts.astype(float), edges, np.array([limit]))[0] == pytest.approx(
        expected, rel=2e-3
    )


@pytest.mark.parametrize("seed", range(4))
def test_mse_is_close_to_the_best_of_all_ranges(seed: int) -> None:
    data = long_tailed(seed)
    largest = float(np.abs(data).max())
    best = min(mean_squared_error(data, limit) for limit in np.geomspace(largest / 64, largest, 400))
    assert mean_squared_error(data, mse_range(histogram_of(data))) <= 1.03 * best


def test_mse_oracle_fails_for_minmax() -> None:
    data = long_tailed()
    assert mean_squared_error(data, np.abs(data).max()) > 1.05 * mean_squared_error(
        data, mse_range(histogram_of(data))
    )


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
@pytest.mark.parametrize(
    "data",
    [np.zeros(9), np.full(9, np.nan), np.full(9, -3.4e38), np.zeros(0)],
    ids=["zero", "nan", "mask", "empty"],
)
def test_without_values_the_range_is_zero(method: str, data: np.ndarray) -> None:
    assert range_of(histogram_of(data.astype(np.float32)), method) == 0.0


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
@given(data=ARRAYS.filter(np.any))
@settings(max_examples=40)
def test_range_is_positive_and_at_most_the_maximum(method: str, data: np.ndarray) -> None:
    found = range_of(histogram_of(data), method)
    assert 0.0 < found <= np.abs(data).max()


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_scaling_by_a_power_of_two_scales_the_range(method: str) -> None:
    data = long_tailed()
    scaled = range_of(histogram_of(4 * data), method)
    assert scaled == pytest.approx(4 * range_of(histogram_of(data), method), rel=1e-12)


def test_nearly_all_zero_keeps_what_there_is() -> None:
    data = np.zeros(100_000, np.float32)
    data[7] = 0.25
    assert range_of(histogram_of(data), "percentile", 99.9) == 0.25


@pytest.mark.parametrize("method", ["entropy", "mse"])
def test_subnormal_data_has_a_range(method: str) -> None:
    assert 0.0 < range_of(histogram_of(np.float32([1e-40, 2e-40])), method) <= np.float32(2e-40)


def test_entropy_does_not_take_the_noise_of_small_counts_for_information() -> None:
    """A few samples of two bumps: clipping off the second one would lose what the tensor says."""
    rng = np.random.default_rng(3)
    bumps = np.concatenate([rng.normal(1, 0.2, 4000), rng.normal(10, 0.5, 400)]).astype(np.float32)
    assert entropy_range(histogram_of(bumps)) > 9
