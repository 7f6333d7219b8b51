"""What goes into a verdict: how many samples, whose emulation, which floor, which part of the error."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.comparison.compare import compare_outputs
from harness.precision import Precision
from harness.spec.terms import Terms
from harness.verdict.floors import OwnError, own_errors
from harness.verdict.tasks import SAMPLES_PER_SHAPE, feeds_needed
from harness.verdict.triage import Split, split_error, verdict_of
from tests.helpers.compare import features

FP16, FP32, BOTH = Precision.FP16, Precision.FP32, Precision.INT8_FP16


@pytest.mark.parametrize(
    ("samples", "rows", "feeds"),
    [(1000, 1, 8), (1000, 3, 3), (1000, 8, 1), (1000, 64, 1), (3, 1, 3), (3, 2, 2), (1, 1, 1), (8, 1, 8)],
)
def test_a_shape_is_judged_on_eight_samples_or_all_that_there_are(
    samples: int, rows: int, feeds: int
) -> None:
    data: Any = SimpleNamespace(samples=samples, rows=lambda shapes: rows)  # noqa: ARG005
    assert SAMPLES_PER_SHAPE == 8
    assert feeds_needed(data, {}) == feeds


def outputs(scales: dict[str, float], right: dict[str, Any]) -> dict[str, Any]:
    return {name: right[name] * np.float32(scale) for name, scale in scales.items()}


def found(precision: Precision, engine: dict[str, float], emulation: dict[str, float] | None = None) -> Any:
    """Outputs scaled by so much, against an emulation scaled by so much."""
    right = {name: features(seed=k) for k, name in enumerate(engine)}
    terms = Terms.of(precision)
    known = compare_outputs(outputs(emulation, right), right, terms) if emulation else None
    return compare_outputs(outputs(engine, right), right, terms, emulation=known)


def test_the_largest_error_of_a_part_keeps_its_sign_and_its_nan() -> None:
    assert split_error(BOTH, 3e-2, 0.5, 1e-3, 0.25) == Split(3e-2, 0.25, 0.25, 1e-3)
    assert split_error(BOTH, 3e-2, 2e-2, 1e-3, 2.5e-2).rounding == 0.0
    rounding = split_error(BOTH, 3e-2, math.nan, 1e-3, 2e-2).rounding
    assert rounding is not None
    assert math.isnan(rounding)


def test_parts_are_those_that_the_precision_has() -> None:
    assert split_error(Precision.INT8, 3e-2, 2e-2, 1e-3, 1e-2) == Split(3e-2, 2e-2, None, 1e-3)
    assert split_error(BOTH, 3e-2, 2e-2, 1e-3) == Split(3e-2, 2e-2, None, 1e-3)
    assert split_error(FP16, 3e-2, 2e-2, 1e-3, 1e-2) == Split(3e-2, None, 2e-2, 1e-3)
    assert split_error(BOTH, 3e-2, None, 1e-3, 1e-2) == Split(3e-2, None, None, 1e-3)


def test_an_emulation_that_is_the_engine_says_so_and_no_other_does() -> None:
    near = found(FP16, {"y": 1.004}, {"y": 1.004})
    assert any("real kernels" in warning for warning in verdict_of(near, emulated=True).warnings)
    assert not any("real kernels" in warning for warning in verdict_of(near, emulated=False).warnings)
    assert not any("real kernels" in warning for warning in verdict_of(near).warnings)


def test_the_floor_of_several_readings_is_the_largest() -> None:
    right = features()
    for order in (1, -1):
        readings = [{"y": right * np.float32(1 + off)} for off in (1e-4, 1e-7)][::order]
        engine = {"y": right * np.float32(1 + 3e-4)}
        compared = compare_outputs(engine, {"y": right}, Terms.of(FP32))
        own = own_errors(compared, engine, {"y": right}, readings, Terms.of(FP32))["y"]
        assert own.mre == pytest.approx(1e-4, rel=1e-2)
        assert (own.explains, own.beyond) == (True, True)
        assert verdict_of(compared, own={"y": own}).verdict == "reference-limited"


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_tf32_is_unproven_where_it_is_on_and_no_engine_without_it_was_asked(tf32: bool, known: bool) -> None:
    right = found(FP32, {"y": 1.0})
    told = verdict_of(right, tf32=tf32, without_tf32=right if known else None).warnings
    assert any("build without it to tell" in warning for warning in told) == (tf32 and not known)


def test_what_the_reference_explains_keeps_the_split() -> None:
    wrong, split = found(FP32, {"y": 1 + 1e-4}), Split(1e-4)
    told = verdict_of(wrong, split=split, own={"y": OwnError(1e-4, explains=True, beyond=False)})
    assert (told.verdict, told.split) == ("pass", split)


def test_outputs_beyond_the_reference_are_blamed_in_their_order_and_before_an_engine() -> None:
    wrong = found(FP32, {"z": 1 + 1e-4, "a": 1 + 1e-4, "e": 1 + 1e-4})
    beyond = OwnError(1e-4, explains=True, beyond=True)
    told = verdict_of(wrong, own={"z": beyond, "a": beyond})
    assert told.verdict == "reference-limited"
    assert told.advice.index("'z'") < told.advice.index("'a'") < told.advice.index("engine bug")
