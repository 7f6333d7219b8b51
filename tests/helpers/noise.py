"""Latencies of a noisy machine: recorded ones (units of 10 ns) and a model of drift, bursts and state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RECORDED = Path(__file__).with_name("noisy_machine.npz")
ROUNDS, SAMPLES = 40, 25
Array = NDArray[np.float64]


def recorded() -> dict[str, Array]:
    """Series of 24,000 calls in a row on a shared machine with 2 cores: matrices, memory, Python."""
    with np.load(RECORDED, allow_pickle=False) as file:
        return {name: file[name] * 1e-8 for name in file.files}


def stretch(series: Array, rng: np.random.Generator, rounds: int = ROUNDS) -> Array:
    """Medians of `rounds` rounds in a row from a random place of a series."""
    start = rng.integers(len(series) - rounds * SAMPLES)
    return np.median(series[start : start + rounds * SAMPLES].reshape(rounds, SAMPLES), axis=1)


def simulated(rng: np.random.Generator, rounds: int = ROUNDS, *, shift: float = 0.01) -> Array:
    """Medians of one run: a shift of its own, drift, autocorrelation, bursts of load, a long tail."""
    count = rounds * SAMPLES
    drift = np.linspace(0, rng.normal(0, 0.01), count)
    steps = rng.normal(0, 0.002, count)
    slow = np.convolve(steps, 0.98 ** np.arange(300), mode="full")[:count]
    times = np.exp(rng.normal(0, shift) + drift + slow + np.abs(rng.normal(0, 0.03, count)))
    for _ in range(rng.poisson(1.0)):
        start, length = rng.integers(count), int(rng.exponential(60))
        times[start : start + length] *= 1 + rng.uniform(0.2, 1.0)
    times[rng.random(count) < 0.02] *= rng.uniform(1.5, 4.0)
    return np.median(1e-3 * times.reshape(rounds, SAMPLES), axis=1)


def in_turn(both: Array) -> tuple[Array, Array]:
    """Rounds in a row dealt to two sides in turn, the order turned each time, as `interleave` does."""
    first, second = both[0::2], both[1::2]
    flip = np.arange(len(first)) % 2 == 1
    return np.where(flip, second, first), np.where(flip, first, second)
