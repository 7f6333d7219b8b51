"""What quality and consistency allow, what they refuse, and the words for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.compare import Comparison, bounds, compare, compare_outputs
from harness.comparison.explain import explain, problems, to_json
from harness.errors import DataError
from harness.precision import TOLERANCES, Precision, Tolerance
from harness.spec.model_spec import OutputSpec
from harness.spec.terms import Terms
from tests.helpers.compare import features

FP16, FP32 = Precision.FP16, Precision.FP32


def judge(actual: Any, expected: Any, precision: Precision = FP16, **more: Any) -> Comparison:
    return compare(actual, expected, TOLERANCES[precision], precision=precision, name="y", **more)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "relu", "softmax", "peaked softmax", "small"]),
    st.sampled_from([(np.float16, FP16), (ml_dtypes.bfloat16, Precision.BF16)]),
)
def test_correct_rounding_never_fails(seed: int, kind: str, rounding: tuple[Any, Precision]) -> None:
    x = features((32, 100), seed).astype(np.float64)
    make = {
        "normal": lambda: x,
        "relu": lambda: np.maximum(x, 0),
        "softmax": lambda: softmax(x),
        "peaked softmax": lambda: softmax(10 * x),
        "small": lambda: 1e-2 * x,
    }
    right = make[kind]().astype(np.float32)
    found = judge(right.astype(rounding[0]).astype(np.float32), right, rounding[1])
    assert problems(found) == ()
    assert found.consistency
    assert not found.unusual


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 15), st.floats(1, 50), st.sampled_from([FP32, FP16]))
def test_one_element_off_by_its_size_is_found(
    seed: int, row: int, factor: float, precision: Precision
) -> None:
    right = features((16, 1000), seed)
    wrong = right.copy()
    place = int(np.abs(right[row]).argmax())
    wrong[row, place] += factor * right[row, place]
    found = judge(wrong, right, precision)
    assert not found.quality
    assert any(fault.kind == "element" and fault.index == (row, place) for fault in found.faults)


def test_a_wrong_row_does_not_drown() -> None:
    right = features((64, 1000))
    wrong = right.copy()
    wrong[[3, 9]] = wrong[[9, 3]] * 0.9
    for precision in (FP16, Precision.BF16, Precision.INT8):
        found = judge(wrong, right, precision)
        assert {fault.index for fault in found.faults if fault.kind == "row"} <= {3, 9}
        assert not found.quality


def test_a_row_with_no_content_is_no_alarm() -> None:
    right = features((64, 1000))
    right[7] *= 1e-6
    found = judge(right + np.float32(1e-4), right)
    assert found.quality
    assert found.metrics is not None
    assert found.metrics.worst_row is not None
    assert (found.metrics.worst_row.index, found.metrics.worst_row.mre > 1) == (7, True)


def test_bounds_never_undercut_the_limit() -> None:
    for precision in Precision:
        for limit in (1e-9, 1e-2, 0.9, 3.0):
            allowed = bounds(Tolerance(limit, limit), precision)
            assert allowed.row >= limit
            assert allowed.element >= limit


def test_mre_at_the_limit_passes_and_above_fails() -> None:
    right = np.ones((4, 5))
    tolerance = Tolerance(1e-4, 0.25)
    assert compare(right * 1.25, right, tolerance, precision=FP16).quality
    assert not compare(right * 1.2501, right, tolerance, precision=FP16).quality


def test_above_usual_is_unusual_but_passes() -> None:
    right = features()
    found = judge(right * np.float32(1.002), right)
    assert (found.quality, found.unusual) == (True, True)


def test_consistency_is_measured_by_the_emulation() -> None:
    right = features()
    wrong = right * np.float32(1.02)
    emulation = judge(right * np.float32(1.01), right)
    assert not judge(wrong, right).consistency
    assert judge(wrong, right, emulation=emulation).consistency
    assert judge(wrong, right, emulation_mre=1e-2).consistency
    assert not judge(wrong, right, emulation_mre=1e-4).consistency


def test_consistency_allows_unit_roundoff() -> None:
    right = features()
    assert judge(right * np.float32(1.0005), right, emulation_mre=0.0).consistency


def test_overflow_is_consistent_where_the_emulation_overflows_too() -> None:
    right = features()
    wrong, emulated = right.copy(), right.copy()
    wrong[3, 4], emulated[3, 5] = np.inf, np.inf
    assert not judge(wrong, right).consistency
    assert not judge(wrong, right, emulation=judge(right, right)).consistency
    assert judge(wrong, right, emulation=judge(emulated, right)).consistency
    assert judge(wrong, right, emulation_mre=math.nan).consistency
    assert math.isnan(judge(wrong, right).mre)


def test_an_element_off_is_not_explained_by_a_small_mre() -> None:
    right = features((16, 1000))
    wrong = right.copy()
    wrong[3, 4] += 10
    found = judge(wrong, right, emulation=judge(right * np.float32(1.001), right))
    assert (found.quality, found.consistency) == (False, False)


def test_flipped_indices_are_explained_by_the_emulation() -> None:
    right = np.arange(100)
    wrong = np.where(right % 50 == 0, 0, right)
    wrong[0] = 7
    assert not judge(wrong, right).consistency
    assert judge(wrong, right, emulation=judge(wrong, right)).consistency


def test_a_share_of_integers_may_differ() -> None:
    right = np.arange(100)
    wrong = right.copy()
    wrong[:2] += 1
    assert judge(wrong, right, rule=OutputSpec(mismatch_fraction=0.02)).quality
    assert not judge(wrong, right, rule=OutputSpec(mismatch_fraction=0.01)).quality


def test_extreme_integers_do_not_overflow() -> None:
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    found = judge(np.array([low, 5, high]), np.array([high, 5, high - 1]), FP32)
    assert found.equality is not None
    assert found.equality.unequal == 2
    assert f"got {low}, expected {high}" in explain(found)


def test_integers_of_different_width_are_compared_by_value() -> None:
    assert judge(np.array([1, 2], np.int32), np.array([1, 2], np.uint8)).quality


def test_exact_floats_must_be_equal_with_nan_in_place() -> None:
    right, exact = np.array([1.0, np.nan, np.inf]), OutputSpec(compare="exact")
    assert judge(right.copy(), right, rule=exact).quality
    assert not judge(np.array([1.0, 2.0, np.inf]), right, rule=exact).quality


@pytest.mark.parametrize("dtype", [np.complex64, np.str_, np.object_])
def test_other_dtypes_are_refused_in_one_line(dtype: type) -> None:
    with pytest.raises(DataError, match=r"output .y.: dtype .* cannot be compared") as caught:
        judge(np.zeros(3).astype(dtype), np.zeros(3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_float_types_mix(dtype: Any) -> None:
    right = np.array([[1.0, 2.0], [0.5, 4.0]], np.float32)
    assert judge(right.astype(dtype), right).quality


def test_scalars_compare() -> None:
    assert judge(np.float32(2.0), np.float32(2.0)).quality
    assert not judge(np.float32(2.1), np.float32(2.0)).quality


def test_expected_emptiness_passes_and_is_told() -> None:
    found = judge(np.zeros((0, 6)), np.zeros((0, 6)))
    assert (found.quality, found.empty) == (True, True)


def test_the_error_of_all_outputs_passes_over_those_expected_to_be_empty() -> None:
    nothing, right = np.zeros((0, 6), np.float32), np.ones((2, 6), np.float32)
    found = compare_outputs(
        {"a": nothing, "b": right * np.float32(1.25)},
        {"a": nothing, "b": right},
        Terms.of(Precision.FP16),
    )
    assert found.mre == pytest.approx(0.25)


def test_ignored_outputs_are_not_compared() -> None:
    rules = {"b": OutputSpec(compare="ignore")}
    for outputs in ({"a": features()}, {"a": features(), "b": features()}):
        found = compare_outputs(
            outputs,
            {"a": features(), "b": -features()},
            Terms(FP16, TOLERANCES[FP16], rules),
        )
        assert found.quality
        assert [one.name for one in found.comparisons] == ["a"]


def test_all_outputs_are_in_one_text() -> None:
    right = {name: features(seed=i) for i, name in enumerate("abc")}
    wrong = {"a": right["a"] * 2, "b": right["b"], "c": -right["c"]}
    found = compare_outputs(wrong, right, Terms.of(FP16))
    text = explain(found, "mlp[fp16]", context=("first layer over tolerance: 'fc1'",), reproduce="pytest x")
    assert text.splitlines()[0] == "mlp[fp16]: 2 of 3 outputs fail"
    assert all(f"output '{name}': mre" in text for name in "ac")
    assert "within tolerance: 'b' mre 0.0e+00" in text
    assert text.splitlines()[-1] == "  reproduce: pytest x"
    assert found.mre == pytest.approx(2.0)


def test_a_failure_reads_what_got_allowed_where_and_how_to_reproduce() -> None:
    right = np.full((4, 20), 1.253, np.float32)
    wrong = right.copy()
    wrong[3, 17] = 2.506
    text = explain(judge(wrong, right), "mlp[fp16]", reproduce="pytest suites/ --trt-model mlp")
    lines = text.splitlines()
    assert lines[0] == "mlp[fp16] output 'y': mre 1.3e-02 > 5.0e-03"
    assert "also: the element at (3, 17) is off by 1 of its size, 0.25 allowed" in text
    assert "worst at (3, 17): got 2.506, expected 1.253, local error" in text
    assert "allowed at fp16: mre 5.0e-03 (usual 1.0e-03)" in text
    assert lines[-1] == "  reproduce: pytest suites/ --trt-model mlp"


def test_an_exact_output_that_fails_leaves_the_mre_of_the_others() -> None:
    right = {"y": np.ones(4, np.float32), "label": np.arange(4)}
    wrong = {"y": right["y"] * np.float32(1.5), "label": right["label"] + 1}
    found = compare_outputs(wrong, right, Terms.of(FP16))
    assert len(found.failed) == 2
    assert found.mre == pytest.approx(0.5)


def test_json_is_plain() -> None:
    right = features()
    wrong = right.copy()
    wrong[3, 4] = np.nan
    found = compare_outputs({"y": wrong}, {"y": right}, Terms.of(FP16))
    data = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert data["mre"] == "nan"
    assert data["outputs"][0]["metrics"]["non_finite"][0]["actual"] == "nan"
    assert data["outputs"][0]["metrics"]["worst_row"]["count"] == 16


def test_a_spec_may_bound_elements_by_themselves() -> None:
    expected = np.ones((10, 1000), np.float32)
    actual = expected.copy()
    actual[7, 3] += 0.4

    def passes(**own: float) -> bool:
        tolerance = replace(TOLERANCES[Precision.FP16], **own)
        return compare(actual, expected, tolerance, precision=Precision.FP16).quality

    assert not passes()
    assert passes(element=0.5)
    assert not passes(element=0.3)
    assert not passes(element=0.5, row=1e-5)


@pytest.mark.parametrize(("first", "told"), [(math.nan, False), (1.0, True)])
def test_no_spread_is_told_where_no_element_is_finite(first: float, told: bool) -> None:
    actual = np.full((2, 8), math.nan, np.float32)
    actual[0, 0] = first
    text = explain(judge(actual, np.ones((2, 8), np.float32)))
    assert "NaN on one side only" in text
    assert ("local error p99" in text, "worst row" in text) == (told, told)
