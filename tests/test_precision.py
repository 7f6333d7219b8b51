"""The tables of precisions, against what the number formats are and what the README says."""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from harness import precision as table
from harness.precision import TOLERANCES, UNIT_ROUNDOFF, Precision, PrecisionPlan, Tolerance, matches

ROOT = Path(__file__).resolve().parents[1]


def half_a_step(dtype: object) -> float:
    """Half the distance from 1 to the next number."""
    return float(ml_dtypes.finfo(dtype).eps) / 2  # type: ignore[arg-type]


def test_unit_roundoffs_are_those_of_the_formats() -> None:
    assert UNIT_ROUNDOFF[Precision.FP32] == half_a_step(np.float32)
    assert UNIT_ROUNDOFF[Precision.FP16] == half_a_step(np.float16)
    assert UNIT_ROUNDOFF[Precision.BF16] == half_a_step(ml_dtypes.bfloat16)
    assert UNIT_ROUNDOFF[Precision.TF32] == 2.0 ** -(10 + 1)
    codes = np.iinfo(np.int8).max + 1
    assert UNIT_ROUNDOFF[Precision.INT8] == UNIT_ROUNDOFF[Precision.INT8_FP16] == 0.5 / codes
    assert set(UNIT_ROUNDOFF) == set(TOLERANCES) == set(Precision)


def readme(row: str) -> list[float]:
    """A row of the README's tolerance table, by precision; the last column is for both of INT8."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {row}[^|]*\|(.+)\|$", text, re.MULTILINE)
    assert found
    cells = [float(cell) for cell in found.group(1).split("|")]
    return [*cells, cells[-1]]


@pytest.mark.parametrize(("row", "field"), [("expected `mre`", "expected"), ("limit;", "limit")])
def test_the_tolerance_table_is_the_readmes(row: str, field: str) -> None:
    assert [getattr(TOLERANCES[precision], field) for precision in Precision] == readme(row)


def test_the_factors_are_the_readmes() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "by 10 limits (at most half its size), an element by 50 limits" in text
    assert (table.ROW_FACTOR, table.ROW_CEILING) == (10.0, 0.5)
    assert (table.SLICE_FACTOR, table.SLICE_CEILING) == (10.0, 0.5)
    assert (table.ELEMENT_FACTOR, table.ELEMENT_CEILING) == (50.0, 1.0)


def test_strict_makes_expected_the_limit_and_changes_nothing_else() -> None:
    own = Tolerance(1e-3, 5e-3, row=0.1, element=0.2)
    assert own.strict() == Tolerance(1e-3, 1e-3, row=0.1, element=0.2)


def test_what_each_precision_computes_in() -> None:
    assert [p for p in Precision if p.quantized] == [Precision.INT8, Precision.INT8_FP16]
    assert {p: p.half for p in Precision if p.half} == {
        Precision.FP16: Precision.FP16,
        Precision.BF16: Precision.BF16,
        Precision.INT8_FP16: Precision.FP16,
    }


def test_a_plan_keeps_what_its_patterns_and_types_name() -> None:
    plan = PrecisionPlan(Precision.FP16, ("block/*", "x[0]"), ("Softmax",))
    kept = [("block/a", "Conv"), ("x[0]", "Conv"), ("other", "Softmax")]
    assert [plan.keeps(*node) for node in kept] == [True, True, True]
    assert not plan.keeps("other", "Conv")
    assert plan.unmatched(kept) == []
    assert plan.unmatched([("other", "Conv")]) == ["block/*", "x[0]", "Softmax"]
    assert str(plan) == "fp16, 3 FP32 patterns"
    assert str(PrecisionPlan(Precision.FP16)) == "fp16"
    assert str(PrecisionPlan(Precision.FP16, (), ("Softmax",))) == "fp16, 1 FP32 patterns"


def test_nodes_given_by_name_replace_patterns_and_types() -> None:
    plan = PrecisionPlan(Precision.BF16, ("old",), ("Softmax",)).with_fp32_nodes({"b", "a"})
    assert plan == PrecisionPlan(Precision.BF16, ("a", "b"))


def test_a_digest_depends_on_what_a_plan_says_alone() -> None:
    plans = [
        PrecisionPlan(p, nodes, ops) for p in Precision for nodes in ((), ("a",)) for ops in ((), ("A",))
    ]
    assert len({plan.digest() for plan in plans}) == len(plans)
    assert PrecisionPlan(Precision.FP16, ("a",)).digest() == PrecisionPlan(Precision.FP16, ("a",)).digest()


def test_a_name_matches_itself_whatever_it_looks_like() -> None:
    assert matches("a[0]", "a[0]")
    assert matches("a*", "a[0]")
    assert not matches("A*", "a[0]")


def test_tables_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TOLERANCES[Precision.FP32] = Tolerance(1, 1)  # type: ignore[index]
    with pytest.raises(AttributeError):
        TOLERANCES[Precision.FP32].limit = 1.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        PrecisionPlan(Precision.FP16).precision = Precision.FP32  # type: ignore[misc]
