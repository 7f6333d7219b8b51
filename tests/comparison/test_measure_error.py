"""The metrics against plain NumPy formulas on whole tensors."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.blocks import to_double
from harness.comparison.largest import Largest
from harness.comparison.measure_error import measure_error
from harness.comparison.value_range import FP16, measure_range
from tests.helpers.compare import features

WITHIN = 1e-5
"""How far a brief measurement may be from one in float64, relatively."""

SHAPES = [(), (1,), (7,), (3, 5), (9000,), (2, 9000), (40, 300), (3, 2, 4100), (2, 3, 9000), (5, 3, 7, 11)]
"""Smaller and larger than a block, whole rows, whole channels, parts of a channel."""


def pair(shape: tuple[int, ...], noise: float = 1e-2) -> tuple[Any, Any]:
    expected = features(shape, seed=1)
    return (expected + noise * features(shape, seed=2)).astype(np.float32), expected


def quantile(values: Any, q: float) -> float:
    return float(np.quantile(values, q, method="inverted_cdf"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch_axis", [0, 1, -1, None])
def test_metrics_are_the_formulas(shape: tuple[int, ...], batch_axis: int | None) -> None:
    o, r = pair(shape)
    found = measure_error(o, r, rtol=1e-2, batch_axis=batch_axis)
    d, m = np.abs(o.astype(np.float64) - r), np.abs(r.astype(np.float64))
    local = d / np.maximum(m, m.mean())
    assert found.mre == pytest.approx(d.sum() / m.sum())
    assert found.rel_l2 == pytest.approx(math.sqrt((d**2).sum() / (m**2).sum()))
    assert found.snr_db == pytest.approx(-20 * math.log10(found.rel_l2))
    assert found.max == pytest.approx(local.max())
    assert found.p99 == pytest.approx(quantile(local, 0.99))
    assert found.p999 == pytest.approx(quantile(local, 0.999))
    assert found.worst is not None
    assert found.worst.index == np.unravel_index(local.argmax(), shape)
    assert found.worst.actual == o[found.worst.index]
    atol = 1e-2 * math.sqrt((m**2).mean())
    assert found.violations == pytest.approx((d > atol + 1e-2 * m).mean())
    assert found.elementwise_mean == pytest.approx((d / m).mean())


@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) > 1])
@pytest.mark.parametrize("batch_axis", [0, 1])
def test_rows_and_channels_are_the_formulas(shape: tuple[int, ...], batch_axis: int) -> None:
    o, r = pair(shape)
    found = measure_error(o, r, rtol=1e-2, batch_axis=batch_axis)
    parts = o.astype(np.float64) - r, r.astype(np.float64)
    d, m = (np.moveaxis(np.abs(x), batch_axis, 0) for x in parts)
    rows = d.reshape(len(d), -1).sum(1) / m.reshape(len(d), -1).sum(1)
    assert found.worst_row is not None
    assert found.worst_row.mre == pytest.approx(rows.max())
    assert (found.worst_row.index, found.worst_row.count) == (rows.argmax(), len(rows))
    others = (0, *range(2, d.ndim))
    channels = d.sum(others) / m.sum(others)
    assert found.worst_channel is not None
    assert found.worst_channel.mre == pytest.approx(channels.max())
    assert found.worst_channel.axis == (1 if batch_axis == 0 else 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble, ml_dtypes.bfloat16])
def test_other_float_types_are_measured_in_float64(dtype: Any) -> None:
    o, r = (x.astype(dtype) for x in pair((40, 300)))
    d, m = np.abs(o.astype(np.float64) - r.astype(np.float64)), np.abs(r.astype(np.float64))
    assert measure_error(o, r, rtol=1e-2).mre == pytest.approx(d.sum() / m.sum())


TWISTS = [lambda a: a.T, lambda a: a[::2, ::3], lambda a: a[:, ::-1], np.asfortranarray]


@pytest.mark.parametrize("twist", TWISTS)
def test_memory_layout_does_not_matter(twist: Any) -> None:
    o, r = (twist(x) for x in pair((60, 300)))
    expected = measure_error(np.ascontiguousarray(o), np.ascontiguousarray(r), rtol=1e-2)
    found = measure_error(o, r, rtol=1e-2)
    assert found.worst == expected.worst
    assert found.mre == pytest.approx(expected.mre, rel=1e-14)


def test_empty_tensors_have_no_error() -> None:
    found = measure_error(np.zeros((0, 3)), np.zeros((0, 3)), rtol=1e-2)
    assert found.size == 0
    assert found.max == 0.0


def test_zero_reference_has_no_relative_error() -> None:
    zero = np.zeros((4, 5), np.float32)
    assert measure_error(zero, zero, rtol=1e-2).mre == 0.0
    found = measure_error(zero + 1, zero, rtol=1e-2)
    assert (found.mre, found.max) == (math.inf, math.inf)


def test_scale_makes_a_small_reference_absolute() -> None:
    zero = np.zeros((4, 5), np.float32)
    found = measure_error(zero + 1e-3, zero, rtol=1e-2, scale=1.0)
    assert found.absolute
    assert found.mre == pytest.approx(1e-3)
    assert found.max == pytest.approx(1e-3)
    assert not measure_error(zero + 3, zero + 2, rtol=1e-2, scale=1.0).absolute


def test_shared_non_finite_elements_are_left_out() -> None:
    o, r = pair((50, 400))
    bad = o.copy(), r.copy()
    for array in bad:
        array[3, 4], array[5, 6], array[7, 8] = np.nan, np.inf, -np.inf
    found = measure_error(*bad, rtol=1e-2)
    assert found.non_finite == ()
    assert found.finite == o.size - 3
    keep = np.isfinite(bad[1])
    assert found.mre == pytest.approx(np.abs(o - r)[keep].sum() / np.abs(r)[keep].sum(), rel=1e-5)


def test_non_finite_elements_on_one_side_are_named() -> None:
    o, r = pair((50, 400))
    o[3, 4] = o[40, 399] = np.nan
    r[5, 6] = np.inf
    by_kind = {odd.what: odd for odd in measure_error(o, r, rtol=1e-2).non_finite}
    assert set(by_kind) == {"nan", "+inf"}
    assert (by_kind["nan"].count, by_kind["nan"].index) == (2, (3, 4))
    assert (by_kind["+inf"].index, by_kind["+inf"].expected) == ((5, 6), np.inf)


def test_overflowing_sums_never_look_small() -> None:
    huge = np.full((8, 8), 1e308)
    assert not measure_error(-huge, huge, rtol=1e-2).mre < 1.0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40_000), st.integers(0, 2**32 - 1), st.sampled_from(["any", "up", "down", "equal"]))
def test_largest_gives_exact_quantiles(total: int, seed: int, order: str) -> None:
    values = np.abs(np.random.default_rng(seed).standard_normal(total))
    values = {"any": values, "up": np.sort(values), "down": -np.sort(-values)}.get(order, values * 0 + 1)
    largest = Largest(total, 0.01)
    for part in np.array_split(values, max(1, total // 3000)):
        largest.add(part[part > largest.threshold])
    for q in (0.99, 0.999, 1.0):
        assert largest.quantile(q) == quantile(values, q)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_brief_measurement_agrees_on_what_it_does_not_estimate(shape: tuple[int, ...]) -> None:
    o, r = pair(shape)
    whole, brief = measure_error(o, r, rtol=1e-2), measure_error(o, r, rtol=1e-2, brief=FP16)
    assert (brief.size, brief.finite) == (whole.size, whole.finite)
    for name in ("mean_abs", "mre", "rel_l2", "atol"):
        assert getattr(brief, name) == pytest.approx(getattr(whole, name), rel=WITHIN)
    for ours, theirs in (brief.worst_row, whole.worst_row), (brief.local_row, whole.local_row):
        assert (ours is None) == (theirs is None)
        if ours and theirs:
            assert (ours.index, ours.count) == (theirs.index, theirs.count)
            assert ours.mre == pytest.approx(theirs.mre, rel=WITHIN)
    assert brief.max <= whole.max * (1 + WITHIN)
    assert brief.worst_channel is None


def test_a_brief_measurement_of_a_small_tensor_is_exact() -> None:
    o, r = pair((40, 300))
    whole, brief = measure_error(o, r, rtol=1e-2), measure_error(o, r, rtol=1e-2, brief=FP16)
    figures = [(found.p99, found.p999, found.max) for found in (brief, whole)]
    assert figures[0] == pytest.approx(figures[1], rel=WITHIN)
    assert brief.worst is not None
    assert whole.worst is not None
    assert brief.worst.index == whole.worst.index
    assert brief.violations == pytest.approx(whole.violations)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 199_999), st.integers(0, 2**32 - 1))
def test_a_brief_measurement_misses_no_gross_error(position: int, seed: int) -> None:
    r = features((20, 10_000), seed)
    o = r * np.float32(1.0001)
    o.reshape(-1)[position] += 5.0
    found = measure_error(o, r, rtol=1e-2, brief=FP16)
    assert found.worst is not None
    assert found.worst.index == np.unravel_index(position, r.shape)


def test_a_brief_measurement_estimates_quantiles_well() -> None:
    o, r = pair((64, 64, 256))
    whole, brief = measure_error(o, r, rtol=1e-2), measure_error(o, r, rtol=1e-2, brief=FP16)
    assert brief.p99 == pytest.approx(whole.p99, rel=0.1)
    assert brief.violations == pytest.approx(whole.violations, abs=0.02)


def test_a_brief_measurement_leaves_shared_infinities_out() -> None:
    o, r = pair((50, 400))
    o[3], r[3] = np.inf, np.inf
    whole, brief = measure_error(o, r, rtol=1e-2), measure_error(o, r, rtol=1e-2, brief=FP16)
    assert (brief.finite, brief.non_finite) == (whole.finite, ())
    assert brief.mre == pytest.approx(whole.mre, rel=WITHIN)


@pytest.mark.parametrize("values", ["any", "zeros", "subnormal", "infinite"])
def test_float16_is_converted_exactly(values: str) -> None:
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16)
    chosen = {"zeros": bits[:1], "subnormal": bits[:1024], "infinite": bits}
    halves = chosen.get(values, bits[np.isfinite(bits)])
    target = np.empty(halves.size)
    to_double(halves, target, np.empty(halves.size, np.float32))
    assert np.array_equal(target, halves.astype(np.float64), equal_nan=True)
    assert np.array_equal(np.signbit(target), np.signbit(halves))


def brief_pair(seed: int, dtypes: tuple[Any, Any]) -> tuple[Any, Any]:
    """A tensor of one to five blocks or rows, parts of it scaled, equal, zero or not finite."""
    rng = np.random.default_rng(seed)
    shape = [(1,), (3, 50), (7, 9000), (1, 5, 70_001), (40_000, 3)][seed % 5]
    r = rng.standard_normal(shape) * rng.choice([1e-44, 1e-38, 1e-25, 1e-3, 1.0, 1e3, 1e18, 1e30])
    r[rng.random(shape) < rng.choice([0.0, 0.5, 0.99])] = rng.choice([0.0, 1e-40, 1.0, -3.4e38])
    o = r * (1 + rng.choice([0.0, 1e-7, 1e-3, 1.0]) * rng.standard_normal(shape))
    for array, odd in (o, np.nan), (o, -np.inf), (r, np.inf):
        array[rng.random(shape) < rng.choice([0.0, 0.0, 1e-4, 1.0], p=[0.4, 0.4, 0.15, 0.05])] = odd
    with np.errstate(all="ignore"):
        return o.astype(dtypes[0]), r.astype(dtypes[1])


BRIEF_DTYPES = [
    (np.float32, np.float32),
    (np.float16, np.float32),
    (ml_dtypes.bfloat16, np.float32),
    (np.float16, np.float16),
    (np.float32, np.float64),
]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(BRIEF_DTYPES), st.sampled_from([None, 0, -1]))
def test_a_brief_measurement_is_within_its_bound(seed: int, dtypes: Any, batch_axis: int | None) -> None:
    o, r = brief_pair(seed, dtypes)
    whole, brief = (measure_error(o, r, rtol=1e-2, batch_axis=batch_axis, brief=b) for b in (None, FP16))
    assert (brief.size, brief.finite) == (whole.size, whole.finite)
    assert repr(brief.non_finite) == repr(whole.non_finite)
    for name in ("mean_abs", "mre", "rel_l2", "atol"):
        found, known = getattr(brief, name), getattr(whole, name)
        assert found == pytest.approx(known, rel=WITHIN, abs=0, nan_ok=True), name
    for group, theirs in (brief.worst_row, whole.worst_row), (brief.local_row, whole.local_row):
        assert (group is None) == (theirs is None)
        if group and theirs:
            assert group.mre == pytest.approx(theirs.mre, rel=WITHIN, abs=0, nan_ok=True)
    assert brief.max <= whole.max * (1 + WITHIN)
    assert brief.values == measure_range(r, FP16)
