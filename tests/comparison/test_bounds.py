"""The bounds of quality and of consistency, each tried just below and just above."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.comparison.compare import Comparison, bounds, compare, compare_outputs
from harness.comparison.result import Fault
from harness.precision import TOLERANCES, UNIT_ROUNDOFF, Precision, Tolerance
from harness.spec.parts import OutputSpec
from harness.spec.terms import Terms

FP16, INT8 = Precision.FP16, Precision.INT8
LIMIT = TOLERANCES[FP16].limit


def ones(*shape: int) -> Any:
    return np.ones(shape)


def judge(actual: Any, expected: Any, **more: Any) -> Comparison:
    return compare(actual, expected, TOLERANCES[FP16], precision=FP16, name="y", **more)


def kinds(found: Comparison) -> set[str]:
    return {fault.kind for fault in found.faults}


def with_row(off: float, rows: int = 64, width: int = 40) -> Any:
    """Ones, the fifth row off by `off`; channels share the error, so that the row alone is far off."""
    array = ones(rows, width)
    array[5] += off
    return array


@pytest.mark.parametrize(("limits", "fails"), [(9.9, False), (10.1, True)])
def test_a_row_may_be_off_by_ten_limits(limits: float, fails: bool) -> None:
    found = judge(with_row(limits * LIMIT), ones(64, 40))
    assert ("row" in kinds(found)) == fails
    assert found.quality != fails


@pytest.mark.parametrize(("limits", "fails"), [(9.9, False), (10.1, True)])
def test_a_slice_may_be_off_by_ten_limits(limits: float, fails: bool) -> None:
    wrong = ones(40, 64)
    wrong[:, 7] += limits * LIMIT
    assert ("slice" in kinds(judge(wrong, ones(40, 64)))) == fails


@pytest.mark.parametrize(("limits", "fails"), [(49.9, False), (50.1, True)])
def test_an_element_may_be_off_by_fifty_limits(limits: float, fails: bool) -> None:
    wrong = ones(64, 200)
    wrong[3, 4] += limits * LIMIT
    assert ("element" in kinds(judge(wrong, ones(64, 200)))) == fails


def test_ceilings_hold_where_limits_are_wide() -> None:
    wide = bounds(Tolerance(0.1, 0.2), FP16)
    assert (wide.row, wide.slice, wide.element) == (0.5, 0.5, 1.0)
    assert bounds(Tolerance(0.1, 0.2), INT8).element == pytest.approx(10.0)
    above = bounds(Tolerance(0.1, 3.0), FP16)
    assert (above.row, above.slice, above.element) == (3.0, 3.0, 3.0)


def test_bounds_of_a_spec_stand_alone() -> None:
    own = bounds(
        Tolerance(1e-3, 5e-3, row=0.7, element=9.0, slice=0.6), FP16, OutputSpec(mismatch_fraction=0.25)
    )
    assert (own.mre, own.expected, own.row, own.element, own.slice, own.unequal) == (
        5e-3,
        1e-3,
        0.7,
        9.0,
        0.6,
        0.25,
    )


def faulty(kind: Any, got: float, axis: int | None = None) -> Comparison:
    """A comparison with one fault and nothing else to explain."""
    found = judge(ones(4, 8), ones(4, 8))
    return replace(found, faults=(Fault(kind, got, 0.0, 0, axis=axis),))


def emulated(row: float, element: float) -> Comparison:
    """An emulation whose worst row and worst element are off by so much."""
    wrong = ones(64, 400)
    wrong[3] += row
    wrong[5, 7] += element
    found = judge(wrong, ones(64, 400))
    assert found.metrics is not None
    assert found.metrics.local_row is not None
    return found


@pytest.mark.parametrize(
    ("kind", "row", "element"), [("row", 0.1, 0.5), ("element", 0.1, 0.5), ("row", 0.3, 0.4)]
)
def test_a_row_is_explained_by_a_row_and_an_element_by_an_element(
    kind: str, row: float, element: float
) -> None:
    emulation = emulated(row, element)
    assert emulation.metrics is not None
    assert emulation.metrics.local_row is not None
    shown = emulation.metrics.local_row.mre if kind == "row" else emulation.metrics.max
    assert shown == pytest.approx(row if kind == "row" else element, rel=0.05)
    for factor, explained in ((3.99, True), (4.01, False)):
        found = replace(faulty(kind, factor * shown, 0 if kind == "row" else None), emulation=emulation)
        assert found.consistency == explained


@pytest.mark.parametrize(
    ("kind", "spread"), [("unequal", 1.0), ("row", 10.0), ("slice", 10.0), ("element", 50.0)]
)
def test_where_only_an_mre_is_known_parts_may_spread_as_in_quality(kind: str, spread: float) -> None:
    for factor, explained in ((3.99, True), (4.01, False)):
        found = replace(faulty(kind, factor * spread * 1e-2), emulation_mre=1e-2)
        assert found.consistency == explained


def test_an_output_is_explained_up_to_four_times_the_larger_of_emulation_and_roundoff() -> None:
    off = judge(ones(4, 8) * 1.001, ones(4, 8))
    assert replace(off, emulation_mre=1e-2).explained_mre == pytest.approx(4e-2)
    assert replace(off, emulation_mre=0.0).explained_mre == 4 * UNIT_ROUNDOFF[FP16]
    assert replace(off, emulation_mre=math.nan).explained_mre == math.inf
    assert off.explained_mre == 4 * TOLERANCES[FP16].expected
    both = replace(off, emulation=judge(ones(4, 8) * 1.002, ones(4, 8)), emulation_mre=1.0)
    assert both.explained_mre == pytest.approx(8e-3)


@pytest.mark.parametrize("kind", ["nan", "+inf", "-inf"])
def test_what_is_not_finite_is_explained_by_what_is_not_finite_alone(kind: str) -> None:
    found = faulty(kind, math.nan)
    assert not replace(found, emulation_mre=1e9).consistency
    assert not found.consistency
    assert replace(found, emulation_mre=math.inf).consistency
    assert replace(found, emulation=faulty("-inf", math.nan)).consistency
    assert not replace(found, emulation=faulty("row", 1e9)).consistency
    assert math.isnan(found.mre)


@pytest.mark.parametrize("kind", ["missing", "extra", "iterations", "shape", "empty", "kind"])
def test_no_precision_explains_another_structure(kind: str) -> None:
    assert not replace(faulty(kind, 1.0), emulation=faulty(kind, 1.0)).consistency


def test_an_mre_alone_is_judged_once() -> None:
    found = replace(faulty("mre", 1e9), emulation=judge(ones(4, 8) * 1.1, ones(4, 8)))
    assert found.consistency


def test_an_emulation_without_numbers_explains_none() -> None:
    whole = judge(np.arange(8), np.arange(8))
    assert not replace(faulty("row", 1e-9, 0), emulation=whole).consistency
    assert not replace(faulty("unequal", 1e-9), emulation=judge(ones(4, 8), ones(4, 8))).consistency


@pytest.mark.parametrize(("mre", "close"), [(2.4e-3, False), (2.6e-3, True), (5.1e-3, False), (1e-4, False)])
def test_close_is_above_half_the_limit_and_passing(mre: float, close: bool) -> None:
    off = ones(4, 8) * (1 + mre)
    assert judge(off, ones(4, 8)).close == close
    fp32 = compare(off, ones(4, 8), TOLERANCES[FP16], precision=Precision.FP32)
    assert not fp32.close


def test_a_slice_is_told_where_it_passes_far_worse_off_than_its_tensor() -> None:
    def thin(off: float) -> bool:
        wrong = ones(40, 64)
        wrong[:, 7] += off * LIMIT
        return judge(wrong, ones(40, 64)).thin is not None

    assert [thin(off) for off in (1.9, 2.1, 9.9, 10.1)] == [False, True, True, False]
    even = ones(40, 64) * (1 + 0.9 * LIMIT)
    assert judge(even, ones(40, 64)).thin is None


def test_outputs_fail_where_one_fails_and_are_consistent_where_all_are() -> None:
    right = {"a": ones(4, 8), "b": ones(4, 8)}
    terms = Terms.of(FP16)
    both = compare_outputs({"a": ones(4, 8), "b": 1.1 * ones(4, 8)}, right, terms)
    assert (both.quality, both.consistency) == (False, False)
    assert [one.name for one in both.failed] == ["b"]
    assert both.mre == pytest.approx(0.1)
    missing = compare_outputs({"a": ones(4, 8)}, right, terms)
    assert (missing.quality, missing.consistency, missing.failed) == (False, False, ())
    assert [(f.kind, f.got) for f in missing.faults] == [("missing", "b")]
    excused = both.explained_by_itself()
    assert (excused.quality, excused.consistency) == (False, True)


def test_nothing_compared_is_empty_and_nothing_else_is() -> None:
    assert judge(np.zeros((0, 3)), np.zeros((0, 3))).empty
    assert not judge(np.zeros((0, 3)), np.zeros((2, 3))).empty
    assert not judge(ones(1, 1), ones(1, 1)).empty
