"""Both passes of a measurement against formulas on whole tensors: nothing is lost to speed."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.blocks import Layout, blocks_of
from harness.comparison.buffers import LARGEST
from harness.comparison.largest import Largest
from harness.comparison.local_error import SPACING, Sample
from harness.comparison.measure_error import measure_error
from tests.helpers.compare import features

EXACT = 1e-12
"""How far a figure may be from its formula in float64, relatively."""

SHAPES = [(1,), (3, 50), (40, 300), (LARGEST,), (LARGEST + 1,), (1, 2, 30_001), (12_000, 3), (3, 10, 1700)]
DTYPES: list[Any] = [np.float32, np.float16, np.float64, np.longdouble, ml_dtypes.bfloat16]
RTOL, ATOL = 1e-2, 1e-3


def generated(seed: int, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """Two tensors: of any size, partly zero, equal, of few values, or not finite."""
    rng = np.random.default_rng(seed)
    r = rng.standard_normal(shape) * rng.choice([1e-310, 1e-290, 1e-40, 1e-3, 1.0, 1.0, 1e4, 1e200])
    r[rng.random(shape) < rng.choice([0.0, 0.5, 0.99])] = 0.0
    noise = rng.standard_normal(shape) if rng.random() < 0.5 else 1.0
    o = r * (1 + rng.choice([0.0, 1e-7, 1e-3, 1.0]) * noise)
    o += rng.choice([0.0, 1e-3]) * rng.standard_normal(shape) * (rng.random(shape) < rng.choice([0.005, 1.0]))
    if rng.random() < 0.3:
        o, r = np.round(o * 8) / 8, np.round(r * 8) / 8
    if rng.random() < 0.3:
        o[rng.random(shape) < 1e-3] = np.nan
        r[rng.random(shape) < 1e-3] = -np.inf
    with np.errstate(all="ignore"):
        return o.astype(dtype), r.astype(dtype)


def known(o: Any, r: Any) -> dict[str, float]:
    """Figures by their formulas, over whole tensors."""
    o, r = o.astype(np.float64).reshape(-1), r.astype(np.float64).reshape(-1)
    finite = np.isfinite(o) & np.isfinite(r)
    if not finite.any():
        return {"finite": 0}
    d, r = np.abs(o - r)[finite], np.abs(r[finite])
    local = np.sort(np.where(d == 0.0, 0.0, d / np.maximum(r, r.mean())))
    return {
        "finite": d.size,
        "mean_abs": r.mean(),
        "mre": d.sum() / r.sum() if d.any() else 0.0,
        "p99": local[math.ceil(0.99 * d.size) - 1],
        "p999": local[math.ceil(0.999 * d.size) - 1],
        "max": local[-1],
        "violations": np.count_nonzero(d > ATOL + RTOL * r) / d.size,
        "elementwise_mean": (d / (r + np.finfo(np.float64).tiny)).mean(),
    }


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.sampled_from([0, -1]))
def test_figures_are_those_of_the_formulas(
    seed: int, shape: tuple[int, ...], dtype: Any, batch_axis: int
) -> None:
    o, r = generated(seed, shape, dtype)
    found = measure_error(o, r, rtol=RTOL, atol=ATOL, batch_axis=batch_axis)
    with np.errstate(all="ignore"):
        for name, value in known(o, r).items():
            assert getattr(found, name) == pytest.approx(value, rel=EXACT, abs=0), name


def test_a_misleading_sample_costs_a_pass_and_no_digit() -> None:
    r = features((40_000,), seed=1)
    o = r * np.float32(1.0001)
    o[::SPACING] *= np.float32(1.5)
    assert Sample(r.size).spacing == SPACING
    found = measure_error(o, r, rtol=RTOL, atol=ATOL)
    with np.errstate(all="ignore"):
        assert (found.p99, found.max) == pytest.approx(
            [known(o, r)[name] for name in ("p99", "max")], rel=EXACT
        )


def test_bounds_that_round_to_whole_differences_lose_none() -> None:
    rng = np.random.default_rng(1)
    r = rng.standard_normal(2_000_000) * 1e-320
    o = r + (rng.random(r.size) < 0.0165) * 1e-323
    with np.errstate(all="ignore"):
        wanted = known(o, r)
    assert measure_error(o, r, rtol=RTOL).p99 == wanted["p99"]


@pytest.mark.parametrize("bound", [0.0, 0.5, 0.985, 0.995, 2.0])
def test_a_bound_that_was_too_high_is_told(bound: float) -> None:
    values = np.random.default_rng(0).permutation(10_000) / 10_000
    largest = Largest(values.size, 0.01, bound)
    for part in np.array_split(values, 10):
        largest.add(part[part > largest.threshold])
    assert largest.complete == (bound < 0.99)
    if largest.complete:
        assert largest.quantile(0.99) == np.quantile(values, 0.99, method="inverted_cdf")


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 3), st.integers(1, 500))
def test_blocks_cover_the_tensor_once(view: tuple[int, int, int], most: int) -> None:
    at = 0
    for block in blocks_of(Layout(view, 0), most):
        assert block.start == at
        assert 0 < block.stop - block.start <= most
        at = block.stop
    assert at == math.prod(view)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(10, 10, 1000), (100_000,), (10, 10, 10_000)])
def test_extra_memory_is_at_most_a_quarter(dtype: Any, shape: tuple[int, ...]) -> None:
    r = features(shape, seed=1)
    o, r = (r + features(shape, seed=2) / 100).astype(dtype), r.astype(dtype)
    measure_error(o, r, rtol=RTOL)
    tracemalloc.start()
    measure_error(o, r, rtol=RTOL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= (0.25 if r.size < 10**6 else 0.2) * (o.nbytes + r.nbytes)
