"""Top-1 agreement: the best two classes exchanged fail, ties may be turned round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.compare import Comparison, compare
from harness.comparison.explain import problems
from harness.comparison.ranking import rank, score_axis
from harness.precision import TOLERANCES, Precision
from tests.helpers.compare import features

PRECISIONS = [Precision.FP32, Precision.TF32, Precision.FP16, Precision.BF16, Precision.INT8]


def logits(seed: int, shape: tuple[int, ...]) -> Any:
    """Scores of a classifier that is sure: the best stands out by a third of itself and more."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1, shape)
    best = rng.integers(0, shape[-1], shape[:-1])[..., None]
    np.put_along_axis(scores, best, rng.uniform(6, 9, best.shape), -1)
    return scores.astype(np.float32)


def best_two_swapped(scores: Any) -> Any:
    places = np.argsort(scores, -1)[..., -2:]
    swapped = scores.copy()
    np.put_along_axis(swapped, places, np.take_along_axis(scores, places, -1)[..., ::-1], -1)
    return swapped


def judge(o: Any, r: Any, precision: Precision) -> Comparison:
    return compare(o, r, TOLERANCES[precision], precision=precision, name="y")


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 12), classes=st.integers(2, 300))
def test_the_best_two_classes_swapped_everywhere_fail(
    precision: Precision, seed: int, samples: int, classes: int
) -> None:
    r = logits(seed, (samples, classes))
    noise = TOLERANCES[precision].expected * features(r.shape, seed)
    assert judge((r * (1 + noise)).astype(np.float32), r, precision).quality
    found = judge(best_two_swapped(r), r, precision)
    (fault,) = [fault for fault in found.faults if fault.kind == "top1"]
    assert fault.got == 1.0
    assert f"1 of {samples} lines choose another class, 0.05 allowed; first at (0,)" in " ".join(
        problems(found)
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_classes_that_are_tied_may_be_turned_round(precision: Precision) -> None:
    r = logits(1, (8, 20))
    second = np.argsort(r, -1)[:, -2:-1]
    top = r.max(-1, keepdims=True)
    np.put_along_axis(r, second, top * (1 - TOLERANCES[precision].limit), -1)
    found = rank(best_two_swapped(r), r, TOLERANCES[precision].limit)
    assert found is not None
    assert (found.lines, found.decided, found.disagree) == (8, 0, 0)


def test_shares_of_one_are_scores_on_whichever_axis_they_lie() -> None:
    e = np.exp(features((4, 6, 9, 5)))
    assert score_axis(e) is None
    assert score_axis(e / e.sum(1, keepdims=True)) == 1
    assert score_axis(e / e.sum(3, keepdims=True)) == 3
    assert score_axis(features((8, 1))) is None
    assert score_axis(features((8,))) is None


def test_lines_of_a_map_are_counted_and_named() -> None:
    r = np.exp(logits(2, (2, 5, 7, 4)))
    r = np.moveaxis(r / r.sum(-1, keepdims=True), -1, 1)
    o = r.copy()
    o[1, :, 2, 3] = np.roll(o[1, :, 2, 3], 1)
    found = rank(o, r, 5e-3)
    assert found is not None
    assert (found.lines, found.disagree, found.index, found.axis) == (70, 1, (1, 2, 3), 1)
    assert found.expected == int(r[1, :, 2, 3].argmax())


@pytest.mark.parametrize("odd", [-np.inf, np.inf, np.nan])
def test_masked_scores_are_no_alarm(odd: float) -> None:
    r = logits(3, (8, 20))
    r[:, ::2] = odd
    assert judge(r.copy(), r, Precision.FP16).quality
    r[3] = odd
    assert judge(r.copy(), r, Precision.FP16).quality
