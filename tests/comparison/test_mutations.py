"""Every way to be wrong must fail, and for its own reason."""

from __future__ import annotations

import numpy as np
import pytest

from harness.comparison.compare import Comparison, OutputsComparison, assert_close, compare, compare_outputs
from harness.comparison.explain import problems
from harness.precision import TOLERANCES, Precision
from harness.spec.terms import Terms
from tests.helpers.compare import MUTATIONS, features

PRECISIONS = [Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8]


def judge(actual: np.ndarray, expected: np.ndarray, precision: Precision) -> Comparison:
    return compare(actual, expected, TOLERANCES[precision], precision=precision, name="logits")


def judge_all(actual: object, expected: object, precision: Precision = Precision.FP16) -> OutputsComparison:
    return compare_outputs(actual, expected, Terms.of(precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutated_output_fails_for_its_own_reason(mutation: str, precision: Precision) -> None:
    mutate, kind = MUTATIONS[mutation]
    found = judge(mutate(features()), features(), precision)
    assert not found.quality
    assert kind in {fault.kind for fault in found.faults}
    assert not found.consistency


@pytest.mark.parametrize("precision", PRECISIONS)
def test_right_output_passes(precision: Precision) -> None:
    assert judge(features(), features(), precision).quality


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_assert_close_raises_with_the_explanation(mutation: str) -> None:
    right, tolerance = features(), TOLERANCES[Precision.FP16]
    wrong = MUTATIONS[mutation][0](right)
    with pytest.raises(AssertionError, match="output 'y'"):
        assert_close(wrong, right, tolerance, precision=Precision.FP16, name="y")


def test_assert_close_is_silent_when_right() -> None:
    assert_close(features(), features(), TOLERANCES[Precision.FP32], precision=Precision.FP32)


def test_transposed_square_fails() -> None:
    square = features((24, 24))
    assert not judge(square.T, square, Precision.INT8).quality


def test_missing_output_fails() -> None:
    found = judge_all({"a": features()}, {"a": features(), "b": features()})
    assert not found.quality
    assert problems(found) == ("output 'b' is missing",)


def test_extra_output_fails() -> None:
    found = judge_all({"a": features(), "b": features()}, {"a": features()})
    assert not found.quality
    assert problems(found) == ("output 'b' is not in the reference",)


def test_no_outputs_at_all_fail() -> None:
    assert not judge_all({}, {"a": features()}).quality


def test_unequal_iteration_counts_fail() -> None:
    steps = [{"a": features(seed=seed)} for seed in range(3)]
    assert judge_all(steps, steps).quality
    found = judge_all(steps[:2], steps)
    assert not found.quality
    assert not found.consistency
    assert problems(found) == ("2 iterations, but the reference has 3",)


def test_swapped_iterations_fail() -> None:
    steps = [{"a": features(seed=seed)} for seed in range(3)]
    found = judge_all([steps[0], steps[2], steps[1]], steps)
    assert [one.name for one in found.failed] == ["a#1", "a#2"]


def test_swapped_outputs_fail() -> None:
    one, two = features(seed=1), features(seed=2)
    assert not judge_all({"a": two, "b": one}, {"a": one, "b": two}, Precision.INT8).quality


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_one_wrong_integer_fails(dtype: type) -> None:
    right = (features() * 3).astype(dtype)
    wrong = right.copy()
    wrong[3, 4] = not right[3, 4]
    assert not judge(wrong, right, Precision.INT8).quality
    assert judge(right.copy(), right, Precision.FP32).quality
