"""Histograms count every element once, and say what they leave out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from harness.comparison import histogram
from harness.comparison.histogram import tensor_histogram

numbers = st.floats(-65504, 65504, width=16) | st.just(np.nan)
floats = stn.arrays(np.float32, stn.array_shapes(max_dims=3, max_side=6), elements=numbers)


@given(floats)
def test_every_element_is_counted_once(expected):
    found = tensor_histogram(expected * np.float32(1.5), expected, bins=7)
    finite = expected.size - found.not_finite
    assert sum(found.expected.counts) == sum(found.actual.counts) == finite
    assert sum(found.errors.counts) + found.equal == finite


def test_an_error_lands_in_its_bin():
    expected = np.ones(100)
    actual = expected.copy()
    actual[:3] = 1.01
    found = tensor_histogram(actual, expected)
    assert found.equal == 97
    assert sum(found.errors.counts) == 3
    assert found.errors.edges[0] < -2 < found.errors.edges[-1]


def test_values_beyond_the_reference_are_in_the_end_bins():
    found = tensor_histogram(np.array([-9.0, 0.5, 9.0]), np.array([0.0, 0.5, 1.0]), bins=2)
    assert found.actual.counts == (1, 2)


@pytest.mark.parametrize("array", [np.zeros(0), np.zeros(5), np.array(3.0), np.array([np.nan, np.inf])])
def test_odd_tensors_have_histograms(array):
    found = tensor_histogram(array, array).to_json()
    assert len(found["values"]["edges"]) == len(found["values"]["expected"]) + 1


def test_large_tensors_are_taken_in_strides(monkeypatch):
    monkeypatch.setattr(histogram, "MOST", 100)
    found = tensor_histogram(np.arange(1001.0), np.arange(1001.0))
    assert 90 <= sum(found.expected.counts) <= 100
