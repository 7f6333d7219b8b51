"""Latency as data: raw samples that never change, statistics derived from them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.latency.doubts import conditions_doubts, sample_doubts


@dataclass(frozen=True)
class Latency:
    """Samples in seconds of one call at one batch size, in order, and what was seen around them.

    `round_sizes` cuts `samples_s` into the rounds they were taken in.  `device_samples_s` are times
    between device events around the same call; empty where there is no device.  `memory_bytes` is the
    largest seen between rounds.  `settled`: whether the warm-up did; `lost`: samples left out because the
    clock went backwards.
    """

    samples_s: tuple[float, ...]
    round_sizes: tuple[int, ...]
    warmup_s: tuple[float, ...] = ()
    device_samples_s: tuple[float, ...] = ()
    batch: int = 1
    settled: bool = True
    lost: int = 0
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        filled = sum(self.round_sizes) == len(self.samples_s)
        if not self.samples_s or not filled or min(self.round_sizes) < 1:
            raise UsageError(
                f"latency: {len(self.samples_s)} samples do not fill rounds of {list(self.round_sizes)[:8]}"
            )

    @property
    def rounds_s(self) -> list[tuple[float, ...]]:
        """The samples, round by round."""
        ends = list(itertools.accumulate(self.round_sizes))
        return [self.samples_s[end - size : end] for end, size in zip(ends, self.round_sizes, strict=True)]

    @property
    def round_medians_s(self) -> list[float]:
        """Median of every round, in order: what baselines are compared by."""
        return [float(np.median(times)) for times in self.rounds_s]

    @property
    def p50_s(self) -> float:
        """Median host time of one call, in seconds."""
        return float(np.median(self.samples_s))

    @property
    def p90_s(self) -> float | None:
        """90th percentile, in seconds; None for a single sample."""
        return quantile(self.samples_s, 0.90)

    @property
    def p99_s(self) -> float | None:
        """99th percentile, in seconds; None for a single sample."""
        return quantile(self.samples_s, 0.99)

    @property
    def mad_s(self) -> float | None:
        """Median absolute deviation from the median, in seconds; None for a single sample."""
        if len(self.samples_s) < 2:
            return None
        return float(np.median(np.abs(np.asarray(self.samples_s) - self.p50_s)))

    @property
    def throughput_per_s(self) -> float:
        """Samples per second of calls made one after the other (batch / median)."""
        return self.batch / self.p50_s

    @property
    def device_p50_s(self) -> float | None:
        """Median device time of one call, in seconds; None where no device time was taken."""
        return float(np.median(self.device_samples_s)) if self.device_samples_s else None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the figures may mislead, a sentence each."""
        before, after, seen = (self.conditions.get(when, {}) for when in ("before", "after", "during"))
        own = sample_doubts(self.rounds_s, settled=self.settled, lost=self.lost)
        return own + conditions_doubts(before, after, seen)

    def to_json(self) -> dict[str, Any]:
        """Raw samples and derived figures as plain JSON data; `from_json` reads the raw ones."""
        derived = ("p50_s", "p90_s", "p99_s", "mad_s", "throughput_per_s", "device_p50_s", "doubts")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Latency:
        """The latency that `to_json` wrote.  Raises UsageError naming what is missing or wrong."""
        try:
            return cls(
                samples_s=_times(data["samples_s"]),
                round_sizes=tuple(int(size) for size in data["round_sizes"]),
                warmup_s=_times(data.get("warmup_s", ())),
                device_samples_s=_times(data.get("device_samples_s", ())),
                batch=int(data.get("batch", 1)),
                settled=bool(data.get("settled", True)),
                lost=int(data.get("lost", 0)),
                memory_bytes=dict(data.get("memory_bytes", {})),
                settings=dict(data.get("settings", {})),
                conditions=dict(data.get("conditions", {})),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"latency: cannot be read: {type(error).__name__}: {error}") from error


def quantile(samples: Sequence[float], share: float) -> float | None:
    """The `share` quantile, linear between samples (Hyndman and Fan type 7); None below two samples."""
    return float(np.quantile(samples, share)) if len(samples) > 1 else None


def describe(latency: Latency) -> str:
    """One line for people; a single sample shows no spread."""
    parts = [f"p50 {milliseconds(latency.p50_s)}"]
    for name, value in (("p90", latency.p90_s), ("p99", latency.p99_s), ("MAD", latency.mad_s)):
        if value is not None:
            parts.append(f"{name} {milliseconds(value)}")
    count = len(latency.samples_s)
    parts.append(f"{latency.throughput_per_s:.4g} samples/s, {count} call{'s' * (count > 1)}")
    if latency.device_p50_s is not None:
        parts.append(f"device p50 {milliseconds(latency.device_p50_s)}")
    return ", ".join(parts)


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds with four digits."""
    return f"{seconds * 1e3:.4g} ms"


def _times(values: Any) -> tuple[float, ...]:
    times = tuple(float(value) for value in values)
    if any(not value > 0 or value == float("inf") for value in times):
        raise ValueError("a time is not a finite number above 0")
    return times
