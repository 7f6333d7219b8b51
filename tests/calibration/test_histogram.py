"""Streaming histograms: whatever the pieces and their order, one picture of the data."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.calibration.counting import BLOCK, SLOTS, Counter
from harness.calibration.histogram import BINS, LOWEST_EXPONENT, MASK_MAGNITUDE, Histogram

MAGNITUDE = st.floats(2.0**-36, 2.0**96, width=32)
FINITE = st.one_of(st.just(0.0), MAGNITUDE, MAGNITUDE.map(lambda x: -x))
PIECES = st.lists(hnp.arrays(np.float32, st.integers(0, 40), elements=FINITE), min_size=1, max_size=6)


def histogram_of(*pieces: np.ndarray) -> Histogram:
    histogram = Histogram()
    for piece in pieces:
        histogram.add(piece)
    return histogram


def same(a: Histogram, b: Histogram) -> bool:
    scalars = ("exponent", "maximum", "zeros", "masked", "not_numbers")
    return np.array_equal(a.counts, b.counts) and all(getattr(a, n) == getattr(b, n) for n in scalars)


def brute(data: np.ndarray) -> tuple[np.ndarray, int]:
    """Counts by definition, in float64, and the exponent of the range."""
    magnitudes = np.abs(data.astype(np.float64).ravel())
    exponent = max(math.frexp(magnitudes.max())[1], LOWEST_EXPONENT)
    scaled = magnitudes / (2.0**exponent / BINS)
    index = np.ceil(scaled[scaled > 0]).astype(int) - 1
    return np.bincount(index, minlength=BINS), exponent


@given(PIECES)
def test_streaming_equals_one_shot(pieces: list[np.ndarray]) -> None:
    assert same(histogram_of(*pieces), histogram_of(np.concatenate(pieces)))


@given(PIECES, st.randoms())
def test_order_of_samples_is_irrelevant(pieces: list[np.ndarray], random: object) -> None:
    shuffled = list(pieces)
    random.shuffle(shuffled)
    assert same(histogram_of(*pieces), histogram_of(*shuffled))


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=FINITE).filter(np.any))
def test_counts_are_those_of_the_definition(data: np.ndarray) -> None:
    histogram = histogram_of(data)
    counts, exponent = brute(data)
    assert histogram.exponent == exponent
    assert np.array_equal(histogram.counts, counts)
    assert histogram.total == data.size
    assert histogram.maximum == np.abs(data).max()


def test_oracle_fails_for_a_value_in_another_bin() -> None:
    data = np.array([1.0, 0.5, 0.25], np.float32)
    counts, _ = brute(data + np.float32(2**-11))
    assert not np.array_equal(histogram_of(data).counts, counts)


def test_many_blocks_and_a_last_short_one() -> None:
    data = np.random.default_rng(0).standard_normal(3 * BLOCK + 17, dtype=np.float32)
    assert np.array_equal(histogram_of(data).counts, brute(data)[0])


def test_range_grows_from_tiny_to_huge() -> None:
    histogram = histogram_of(np.float32([1e-20]), np.float32([1.0]), np.float32([1e20]))
    assert histogram.counts[0] == 2
    assert histogram.total == 3
    assert histogram.maximum == np.float32(1e20)


@pytest.mark.parametrize("value", [1e-38, 2.0**-100, 1.0, np.float32(MASK_MAGNITUDE)])
def test_extreme_magnitudes_fall_into_a_bin(value: float) -> None:
    histogram = histogram_of(np.float32([value, -value]))
    assert histogram.counts.sum() == 2
    assert 0 < histogram.used <= BINS


@pytest.mark.parametrize("mask", [-3.4028235e38, np.inf, -np.inf])
def test_masks_and_infinities_set_no_range(mask: float) -> None:
    histogram = histogram_of(np.float32([mask, 1.0, mask]), np.float32([mask]))
    assert (histogram.masked, histogram.maximum, histogram.total) == (3, 1.0, 1)


def test_nan_is_counted_apart() -> None:
    histogram = histogram_of(np.float32([np.nan, 2.0, np.inf]))
    assert (histogram.not_numbers, histogram.masked, histogram.maximum) == (1, 1, 2.0)


def test_nothing_but_nan() -> None:
    histogram = histogram_of(np.float32([np.nan]))
    assert (histogram.not_numbers, histogram.total, histogram.maximum) == (1, 0, 0.0)


def test_zeros_of_both_signs_are_counted_apart() -> None:
    histogram = histogram_of(np.float32([0.0, -0.0, 1.0]), np.float32([0.0]))
    assert (histogram.zeros, int(histogram.counts.sum()), histogram.total) == (3, 1, 4)


def test_no_values_at_all() -> None:
    assert histogram_of(np.zeros((0, 3), np.float32)).total == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floating_types(dtype: type) -> None:
    data = np.array([0.5, -2.0, 0.0], dtype)
    assert same(histogram_of(data), histogram_of(data.astype(np.float32)))


def test_doubles_beyond_float32_are_masks() -> None:
    assert histogram_of(np.array([1e300, 1.0])).masked == 1


def test_strided_and_scalar_arrays() -> None:
    data = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert same(histogram_of(data[::2, ::-3]), histogram_of(data[::2, ::-3].copy()))
    assert histogram_of(np.array(-3.0, np.float32)).maximum == 3.0


@given(hnp.arrays(np.float32, st.integers(0, 50), elements=st.sampled_from(np.float32([0, 1, 7, SLOTS - 1]))))
def test_counter_is_bincount(values: np.ndarray) -> None:
    counter = Counter()
    counter.count(np.full(BLOCK, 5, np.float32))
    expected = np.bincount(values.astype(int), minlength=SLOTS)
    assert np.array_equal(counter.count(values), expected)
