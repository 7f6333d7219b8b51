"""The verdict table, line by line, and the split of the error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.comparison.compare import Comparison, compare, compare_outputs
from harness.precision import TOLERANCES, Precision
from harness.spec.terms import Terms
from harness.verdict.floors import OwnError
from harness.verdict.triage import Split, split_error, verdict_of
from tests.helpers.compare import features


def judge(scale: float, precision: Precision, emulation_mre: float | None = None) -> Comparison:
    right = features()
    wrong = right * np.float64(scale)
    return compare(
        wrong, right, TOLERANCES[precision], precision=precision, name="y", emulation_mre=emulation_mre
    )


TABLE = [
    (1.0001, 1e-4, "pass", 0, ""),
    (1.0010, 1e-4, "pass", 0, ""),
    (1.0045, 1e-5, "pass", 2, ""),
    (1.1, 0.08, "precision-limited", 0, "search-fp32 SPEC --precision fp16"),
    (1.1, 1e-4, "engine-suspect", 0, "bundle CASE --minimise"),
]


@pytest.mark.parametrize(("scale", "emulation_mre", "verdict", "warnings", "advice"), TABLE)
def test_verdict_table(scale: float, emulation_mre: float, verdict: str, warnings: int, advice: str) -> None:
    found = verdict_of(judge(scale, Precision.FP16, emulation_mre))
    assert (found.verdict, len(found.warnings)) == (verdict, warnings)
    assert advice in found.advice
    assert bool(found.advice) == bool(advice)


@pytest.mark.parametrize(
    ("precision", "scale", "emulated", "told"),
    [
        (Precision.FP16, 1.003, True, True),
        (Precision.FP16, 1.003, False, False),
        (Precision.FP16, 1.002, True, False),
        (Precision.INT8_FP16, 1.06, True, True),
        (Precision.INT8, 1.06, True, False),
        (Precision.FP16, 1.006, True, False),
    ],
)
def test_an_emulation_near_the_limit_does_not_vouch_for_real_kernels(
    precision: Precision, scale: float, emulated: bool, told: bool
) -> None:
    found = verdict_of(judge(scale, precision, scale - 1), emulated=emulated)
    assert any("real kernels" in warning for warning in found.warnings) == told


def test_one_suspect_output_outweighs_the_limited_ones() -> None:
    right = {"a": features(), "b": features(seed=1)}
    emulation = compare_outputs({"a": right["a"] * 1.1, "b": right["b"]}, right, Terms.of(Precision.FP16))

    def verdict(b: float) -> Any:
        wrong = {"a": right["a"] * 1.1, "b": right["b"] * b}
        terms = Terms.of(Precision.FP16)
        return verdict_of(compare_outputs(wrong, right, terms, emulation=emulation)).verdict

    assert verdict(1.0) == "precision-limited"
    assert verdict(1.1) == "engine-suspect"


def test_fp32_wrong_without_tf32_is_an_engine_bug() -> None:
    found = verdict_of(judge(1.001, Precision.FP32, 3e-7))
    assert found.verdict == "engine-suspect"
    assert "engine bug, not precision" in found.advice


def test_tf32_is_named_when_it_is_the_cause() -> None:
    with_tf32, without = judge(1.0006, Precision.FP32, 3e-7), judge(1 + 5e-7, Precision.FP32)
    found = verdict_of(with_tf32, tf32=True, without_tf32=without)
    assert found.verdict == "precision-limited"
    assert "TF32 is the cause" in found.advice


def test_tf32_is_not_blamed_when_the_error_stays() -> None:
    wrong = judge(1.1, Precision.FP32, 3e-7)
    found = verdict_of(wrong, tf32=True, without_tf32=wrong)
    assert found.verdict == "engine-suspect"
    assert "engine bug" in found.advice
    unproven = verdict_of(wrong, tf32=True)
    assert "build without it to tell" in unproven.advice


def test_a_tf32_engine_is_told_from_a_broken_one_by_its_fp32_engine() -> None:
    wrong, right = judge(1.01, Precision.TF32), judge(1 + 5e-7, Precision.TF32)
    limited = verdict_of(wrong, tf32=True, without_tf32=right)
    assert (limited.verdict, "use fp32" in limited.advice) == ("precision-limited", True)
    broken = verdict_of(wrong, tf32=True, without_tf32=wrong)
    assert (broken.verdict, "engine bug" in broken.advice) == ("engine-suspect", True)
    assert "search" not in limited.advice + broken.advice


def test_a_model_that_fp32_itself_cannot_hold_is_not_the_engines_fault() -> None:
    wrong = judge(1 + 3e-5, Precision.FP32, 2e-5)
    found = verdict_of(wrong, own={"y": OwnError(2e-5, explains=True, beyond=True)})
    assert found.verdict == "reference-limited"
    assert "2.0e-05, is above the limit 5.0e-06" in found.advice
    assert "FP32" not in found.advice


def test_an_fp32_engine_is_not_excused_by_itself() -> None:
    wrong = judge(1 + 3e-5, Precision.FP32, 3e-5)
    assert verdict_of(wrong).verdict == "engine-suspect"
    own = {"y": OwnError(7e-8, explains=False, beyond=False)}
    assert verdict_of(wrong, own=own).verdict == "engine-suspect"


@pytest.mark.parametrize("precision", Precision)
def test_what_the_reference_s_own_error_explains_is_a_warning(precision: Precision) -> None:
    wrong = judge(1 + 2 * TOLERANCES[precision].limit, precision)
    found = verdict_of(wrong, own={"y": OwnError(4e-6, explains=True, beyond=False)})
    assert (found.verdict, found.advice) == ("pass", "")
    assert any("explained by the reference's own error" in text for text in found.warnings)


def test_blame_falls_on_the_reference_before_the_engine() -> None:
    right = {"a": features(), "b": features(seed=1)}
    wrong = {"a": right["a"] * 1.1, "b": right["b"] * 1.1}
    found = compare_outputs(wrong, right, Terms.of(Precision.FP16))
    own = {"a": OwnError(0.1, explains=True, beyond=True), "b": OwnError(1e-7, explains=False, beyond=False)}
    judged = verdict_of(found, own=own)
    assert judged.verdict == "reference-limited"
    assert "search-fp32" in judged.advice or "bundle" in judged.advice


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("own", [{}, {"y": OwnError(9.0, explains=True, beyond=True)}])
def test_fp32_is_never_told_to_keep_layers_fp32(precision: Precision, own: dict[str, OwnError]) -> None:
    found = verdict_of(judge(1.5, precision, 0.5), own=own)
    searched = "search-fp32" in found.advice or "stay FP32" in found.advice
    assert searched == (precision not in (Precision.FP32, Precision.TF32) and not own)


def test_empty_outputs_warn() -> None:
    empty = compare(np.zeros((0, 3)), np.zeros((0, 3)), TOLERANCES[Precision.FP16], precision=Precision.FP16)
    found = verdict_of(empty)
    assert found.verdict == "pass"
    assert "nothing was compared" in found.warnings[0]


def test_split_attributes_the_error() -> None:
    assert split_error(Precision.FP16, 1e-3, 9e-4, 1e-4) == Split(1e-3, None, 9e-4, 1e-4)
    assert split_error(Precision.INT8, 2e-2, 1e-2, 5e-2).main == "runtime"
    assert split_error(Precision.INT8_FP16, 3e-2, 2e-2, 1e-3, 1.9e-2).main == "quantization"
    assert split_error(Precision.FP16, float("nan"), float("nan"), 1e-4).main == "rounding"
    assert split_error(Precision.FP16, 1e-3).main is None


def test_an_error_that_rounding_makes_nan_is_roundings() -> None:
    nan = float("nan")
    assert split_error(Precision.INT8_FP16, nan, nan, 0.0, 1e-2).main == "rounding"
