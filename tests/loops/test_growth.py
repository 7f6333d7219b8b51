"""The growth of an error: what was put in is what is found, through noise of a factor of two."""

import math

import numpy as np
import pytest

from harness.loops.growth import fit

STEPS = np.arange(128)


def noisy(errors, seed=0):
    """Errors scattered by factors."""
    scatter = np.random.default_rng(seed).normal(0, 0.3, len(errors))
    return list(np.asarray(errors) * np.exp(scatter))


@pytest.mark.parametrize("seed", range(5))
def test_no_growth(seed):
    assert fit(noisy(np.full(128, 1e-4), seed)).kind == "none"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("start", [1.0, 10.0])
def test_linear_growth_and_its_slope(start, seed):
    found = fit(noisy(1e-6 * (start + STEPS), seed))
    assert found.kind == "linear"
    assert found.per_step == pytest.approx(1e-6, rel=0.3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.03, 0.1])
def test_exponential_growth_and_its_factor(rate, seed):
    found = fit(noisy(1e-7 * np.exp(rate * STEPS), seed))
    assert found.kind == "exponential"
    assert found.per_step == pytest.approx(math.exp(rate), rel=0.02)


def test_an_error_that_shrinks_does_not_grow():
    assert fit(noisy(1e-3 * np.exp(-0.05 * STEPS))).kind == "none"


def test_too_few_steps_tell_nothing():
    assert fit([0.0] * 100 + [1e-6] * 7).kind == "unknown"
    assert fit([math.nan] * 20 + [math.inf] * 20).kind == "unknown"
