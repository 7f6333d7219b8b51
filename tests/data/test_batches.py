"""Samples are judged alike however many of them a feed holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.compare import compare_outputs
from harness.data.batches import stacked
from harness.precision import Precision
from harness.spec.terms import Terms
from tests.helpers.compare import features

ALIKE = [Precision.FP32, Precision.FP16, Precision.INT8]


def parts(whole, rows, axis):
    """The samples of `whole`, along `axis`, in feeds of `rows`."""
    return [{"y": part} for part in np.split(whole, whole.shape[axis] // rows, axis)]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rows", [1, 2, 4, 8])
def test_samples_are_stacked_first_whatever_the_feeds_hold(rows, axis):
    whole = np.moveaxis(features((8, 5, 7)), 0, axis)
    found = stacked(parts(whole, rows, axis), rows)["y"]
    assert np.array_equal(found, np.moveaxis(whole, axis, 0))


def test_outputs_without_samples_get_an_axis_of_their_own():
    assert stacked([{"y": np.zeros(3)}] * 4, 2)["y"].shape == (4, 3)
    assert stacked([{"y": np.zeros(())}] * 4, 1)["y"].shape == (4,)
    assert stacked([{"y": np.zeros(3)}], 2)["y"].shape == (3,)


def test_an_output_of_another_shape_is_not_turned_to_fit():
    like = {"y": np.zeros((4, 2))}
    assert stacked([{"y": np.zeros((2, 4))}], 4, like)["y"].shape == (2, 4)
    assert stacked([{"y": np.zeros((2, 4))}] * 3, 4, like)["y"].shape == (3, 2, 4)


def test_outputs_of_several_shapes_stay_apart():
    other = [{"y": np.zeros((1, 3))}, {"y": np.ones((2, 3))}]
    assert stacked(other) is other


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.0, 0.3, 0.79, 2.0]))
@pytest.mark.parametrize("precision", ALIKE)
def test_eight_samples_are_judged_alike_in_one_feed_or_in_eight(precision, seed, size):
    expected = features((8, 6, 10), seed)
    actual = expected.copy()
    actual[seed % 8] += size * features((6, 10), seed + 1)
    found = [
        compare_outputs(
            stacked(parts(actual, rows, 0), rows),
            stacked(parts(expected, rows, 0), rows),
            Terms.of(precision),
        )
        for rows in (8, 4, 2, 1)
    ]
    assert found[1:] == found[:-1]
    assert found[0].quality == (size == 0.0 or (precision is Precision.INT8 and size < 0.35))
