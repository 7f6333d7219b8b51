"""Every slice by its own size: sums against whole tensors, and a detector spoilt part by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.compare import Comparison, compare
from harness.comparison.explain import problems
from harness.comparison.measure_error import measure_error
from harness.comparison.slices import SHARE, kind_rms, positions
from harness.precision import TOLERANCES, Precision
from harness.verdict.triage import verdict_of
from tests.helpers.compare import features

PRECISIONS = [Precision.FP32, Precision.TF32, Precision.FP16, Precision.BF16, Precision.INT8]
SHAPES = [
    (7, 5),
    (40, 300),
    (3, 20_000),
    (20_000, 3),
    (2, 3, 9001),
    (5, 1, 7, 11),
    (6, 4, 30, 50),
    (2, 3, 4, 5, 6),
]
SCORES = slice(4, None)


def known(o: Any, r: Any, axis: int) -> Any:
    """The errors of all slices along `axis`, by the formula, where all are of one kind."""
    others = tuple(a for a in range(r.ndim) if a != axis)
    d, size = np.abs(o.astype(np.float64) - r), np.abs(r.astype(np.float64))
    share = 1.0 if axis in positions(r.shape) else SHARE
    return d.mean(others) / np.maximum(size.mean(others), share * np.sqrt(np.square(size).mean()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SHAPES), st.sampled_from([0, 1, -1, None]))
def test_slices_are_the_formula(seed: int, shape: tuple[int, ...], batch_axis: int | None) -> None:
    r = features(shape, seed)
    o = r + np.float32(0.01) * features(shape, seed + 1)
    found = measure_error(o, r, rtol=1e-2, batch_axis=batch_axis).slices
    wanted = [axis for axis, size in enumerate(shape) if size > 1 and r.size // size >= 4]
    assert [one.axis for one in found] == wanted
    for one in found:
        errors = known(o, r, one.axis)
        assert one.count == errors.size
        assert one.mre == pytest.approx(errors.max(), rel=1e-9)
        assert errors[one.index] == pytest.approx(one.mre, rel=1e-9)


@pytest.mark.parametrize("twist", [lambda a: a.T, lambda a: a[::2, ::3], lambda a: a[:, ::-1]])
def test_slices_do_not_depend_on_the_memory_layout(twist: Any) -> None:
    r = features((60, 300))
    o = r * np.float32(1.01)
    o[5] += 1
    ours, plain = (measure_error(f(o), f(r), rtol=1e-2).slices for f in (twist, lambda a: twist(a).copy()))
    assert [(a.axis, a.index) for a in ours] == [(a.axis, a.index) for a in plain]
    assert [a.mre for a in ours] == pytest.approx([a.mre for a in plain])


def detector(seed: int) -> Any:
    """Boxes in pixels beside sparse class scores: [samples, 4 + classes, anchors] and scores up to 0.9."""
    rng = np.random.default_rng(seed)
    samples, classes, anchors = (int(n) for n in rng.integers((2, 1, 200), (9, 30, 900)))
    boxes = rng.uniform(5, 640, (samples, 4, anchors))
    logits = rng.normal(-9, 1.5, (samples, classes, anchors))
    for _ in range(classes * 3):
        at = rng.integers(0, anchors - 8)
        logits[rng.integers(samples), rng.integers(classes), at : at + 8] = rng.normal(1.5, 1, 8)
    return np.concatenate([boxes, 1 / (1 + np.exp(-logits))], 1).astype(np.float32)


def rightly(r: Any, precision: Precision, seed: int) -> Any:
    """What a right engine gives: each slice off by about what its precision costs."""
    noise = {Precision.FP32: 3e-7, Precision.INT8: 1e-2}.get(precision, TOLERANCES[precision].expected / 2)
    return (r * (1 + noise * features(r.shape, seed))).astype(np.float32)


def _best(r: Any) -> int:
    return 4 + int(r[:, SCORES].mean((0, 2)).argmax())


def _scores_zeroed(r: Any) -> None:
    r[:, SCORES] = 0


def _last_token_zeroed(r: Any) -> None:
    r[:, :, -1] = 0


def _channel_negated(r: Any) -> None:
    r[:, _best(r)] *= -1


def _slice_stale(r: Any) -> None:
    r[:, _best(r)] = np.roll(r[:, _best(r)], 97, axis=-1)


def _box_stale(r: Any) -> None:
    r[:, 2] = np.roll(r[:, 2], 1, axis=-1)


SPOILS: list[Callable[[Any], None]] = [
    _scores_zeroed,
    _last_token_zeroed,
    _channel_negated,
    _slice_stale,
    _box_stale,
]


def judge(o: Any, r: Any, precision: Precision) -> Comparison:
    return compare(o, r, TOLERANCES[precision], precision=precision, name="y")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("spoil", SPOILS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_spoilt_slice_of_a_detector_fails(spoil: Any, precision: Precision, seed: int) -> None:
    r = detector(seed)
    o = rightly(r, precision, seed + 1)
    assert judge(o, r, precision).quality
    spoil(o)
    found = judge(o, r, precision)
    assert not found.quality
    assert "slice" in {fault.kind for fault in found.faults}
    assert any("of its own size" in text for text in problems(found))


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_slices_that_are_next_to_nothing_are_quiet(precision: Precision, seed: int) -> None:
    """Near-dead channels of features, and classes that no sample shows: what is off there is rounding."""
    rng = np.random.default_rng(seed)
    r = np.abs(features((8, 40, 60), seed)) * 10.0 ** -rng.uniform(0, 6, (1, 40, 1))
    limit = TOLERANCES[precision].limit
    o = r + 0.4 * limit * float(np.abs(r).mean()) * features(r.shape, seed + 1)
    assert judge(o.astype(np.float32), r.astype(np.float32), precision).quality


def test_kinds_are_told_apart_where_sizes_jump() -> None:
    rms = np.array([300.0, 0.03, 200.0, 1e-4, 250.0])
    kinds = kind_rms(rms)
    large, small = (np.sqrt(np.square(rms[rms > 1]).mean()), np.sqrt(np.square(rms[rms < 1]).mean()))
    assert kinds == pytest.approx(np.where(rms > 1, large, small))
    assert kind_rms(rms, alike=True) == pytest.approx(np.sqrt(np.square(rms).mean()))
    assert kind_rms(rms / 1000) == pytest.approx(np.sqrt(np.square(rms / 1000).mean()))


def test_scale_is_the_least_size_of_a_slice() -> None:
    r = features((8, 4, 50)) * np.array([100, 100, 100, 1e-3], np.float32)[:, None]
    o = r.copy()
    o[:, 3] = 0
    rule = {"rtol": 1e-2}
    assert max(one.mre for one in measure_error(o, r, **rule).slices) == pytest.approx(1.0)
    assert max(one.mre for one in measure_error(o, r, **rule, scale=1.0).slices) < 0.01


def test_a_slice_far_worse_than_its_tensor_is_told() -> None:
    r = detector(3)
    o = rightly(r, Precision.FP32, 4)
    o[:, SCORES] *= 1.2
    found = judge(o, r, Precision.INT8)
    assert found.quality
    (warning,) = verdict_of(found).warnings
    assert "along axis 1 is off by 0.2 of its own size" in warning
    assert "the reference's own answers as labels" in warning
