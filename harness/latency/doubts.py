"""Why a latency may mislead: pure rules over its samples and the machine's state around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FEW_SAMPLES = 30
P99_SAMPLES = 100
SPREAD = 0.05
TAIL = 2.0
DRIFT = 0.05
CLOCK_CHANGE = 0.05
STEP, STEP_P, STEP_ROUNDS = 0.03, 0.05, 12
TWO_SPEEDS = 0.1
"""Least share of the calls that a speed of its own has."""
OTHERS = 0.10
UNTHROTTLED = frozenset({"", "none"})


def sample_doubts(
    rounds: Sequence[Sequence[float]], *, settled: bool = True, lost: int = 0
) -> tuple[str, ...]:
    """Doubts from the samples alone: `rounds` in seconds, `lost` samples whose clock went backwards."""
    samples = np.asarray([value for times in rounds for value in times], float)
    found = [] if settled else ["the warm-up did not settle in the time allowed"]
    if lost:
        said = "the clock stood still or went backwards"
        found.append(f"{said}: in {lost} of {len(samples) + lost} samples, left out")
    return tuple(
        found
        + _count_doubts(len(samples))
        + _spread_doubts(samples)
        + _speed_doubts(samples)
        + (_drift_doubts(rounds) or _step_doubts(rounds))
    )


def conditions_doubts(
    before: Mapping[str, Any], after: Mapping[str, Any], seen: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Doubts from the machine's state `before` and `after` (keys: `machine.Probe`), and `during` between."""
    seen = seen or {}
    return tuple(
        _clock_doubts(before, after)
        + _throttle_doubts(before, after, seen)
        + _load_doubts(before, after)
        + _varied_doubts(seen)
    )


def during(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a device did over several readings: `[least, most]` of each number, every throttle reason.

    Keys are those that a device adds, `gpu_...`.
    """
    keys = dict.fromkeys(key for state in states for key in state if key.startswith("gpu_"))
    found: dict[str, Any] = {}
    for key in keys:
        values = [state[key] for state in states if key in state]
        if key.endswith("throttle_reasons"):
            found[key] = ", ".join(dict.fromkeys(v for v in values if v not in UNTHROTTLED)) or "none"
        else:
            found[key] = [min(values), max(values)]
    return found


def _count_doubts(count: int) -> list[str]:
    if count < FEW_SAMPLES:
        return [f"too few samples: {count}, at least {FEW_SAMPLES} are wanted"]
    return [f"few samples for p99: {count}, at least {P99_SAMPLES} are wanted"] if count < P99_SAMPLES else []


def _spread_doubts(samples: Any) -> list[str]:
    if len(samples) < 2:
        return []
    middle = float(np.median(samples))
    mad, p99 = float(np.median(np.abs(samples - middle))) / middle, float(np.quantile(samples, 0.99)) / middle
    found = [f"wide spread: MAD is {mad:.1%} of the median"] if mad > SPREAD else []
    return found + ([f"long tail: p99 is {p99:.1f} times the median"] if p99 > TAIL else [])


def _drift_doubts(rounds: Sequence[Sequence[float]]) -> list[str]:
    medians = [float(np.median(times)) for times in rounds if len(times)]
    if len(medians) < 3:
        return []
    third = len(medians) // 3
    change = float(np.median(medians[-third:]) / np.median(medians[:third])) - 1
    return [f"drift: the last third is {change:+.1%} against the first"] if abs(change) > DRIFT else []


def _step_doubts(rounds: Sequence[Sequence[float]]) -> list[str]:
    """A change of level at one round, by Pettitt's test (A. N. Pettitt 1979, approximate p)."""
    medians = np.array([float(np.median(times)) for times in rounds if len(times)])
    count = len(medians)
    if count < STEP_ROUNDS:
        return []
    order = np.sign(medians[:, None] - medians[None, :])
    above = np.array([order[:k, k:].sum() for k in range(1, count)])
    place = int(np.argmax(np.abs(above))) + 1
    p = 2 * np.exp(-6 * float(above[place - 1]) ** 2 / (count**3 + count**2))
    change = float(np.median(medians[place:]) / np.median(medians[:place])) - 1
    if p >= STEP_P or abs(change) <= STEP:
        return []
    return [f"level changed: {change:+.1%} from round {place + 1} of {count} on"]


def _speed_doubts(samples: Any) -> list[str]:
    """Two speeds: the samples split best (Otsu) into two groups, each narrow beside what lies between."""
    if len(samples) < P99_SAMPLES:
        return []
    ordered = np.sort(samples)
    counts = np.arange(1, len(ordered))
    below = np.cumsum(ordered)[:-1] / counts
    above = (ordered.sum() - np.cumsum(ordered)[:-1]) / (len(ordered) - counts)
    cut = int(np.argmax(counts * (len(ordered) - counts) * (above - below) ** 2)) + 1
    slow, fast = ordered[cut:], ordered[:cut]
    share = len(slow) / len(ordered)
    gap = float(np.quantile(slow, 0.1) - np.quantile(fast, 0.9))
    widths = [float(np.subtract(*np.quantile(side, (0.9, 0.1)))) for side in (fast, slow)]
    if not TWO_SPEEDS <= share <= 1 - TWO_SPEEDS or gap <= max(*widths, 0.02 * float(ordered[0])):
        return []
    speeds = f"{np.median(fast) * 1e3:.4g} ms and {np.median(slow) * 1e3:.4g} ms"
    return [f"two speeds: {speeds}, {share:.0%} of the calls slow; the mean tells more than the median"]


def _clock_doubts(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"clocks changed: {key} from {before[key]:g} to {after[key]:g}"
        for key in before
        if key.endswith("clock_mhz")
        and key in after
        and abs(after[key] - before[key]) > CLOCK_CHANGE * before[key]
    ]


def _varied_doubts(seen: Mapping[str, Any]) -> list[str]:
    """Of the device's compute clock alone: its memory clock and power follow the load."""
    least, most = seen.get("gpu_clock_mhz", (0, 0))
    if most - least <= CLOCK_CHANGE * most:
        return []
    return [f"clocks varied: gpu_clock_mhz from {least:g} to {most:g} while measuring"]


def _throttle_doubts(
    before: Mapping[str, Any], after: Mapping[str, Any], seen: Mapping[str, Any]
) -> list[str]:
    counts = [
        f"throttled: {key} rose by {after[key] - before[key]:g} while measuring"
        for key in before
        if key.endswith("throttle_count") and after.get(key, 0) > before[key]
    ]
    states = (before, seen, after)
    named = {str(state[key]) for state in states for key in state if key.endswith("throttle_reasons")}
    return counts + [f"throttled: {reason}" for reason in sorted(named - UNTHROTTLED)]


def _load_doubts(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    needed = ("busy_s", "own_s", "wall_s", "cpus")
    if any(key not in before or key not in after for key in needed):
        return []
    wall = after["wall_s"] - before["wall_s"]
    others = (after["busy_s"] - before["busy_s"]) - (after["own_s"] - before["own_s"])
    share = others / (wall * after["cpus"]) if wall > 0 else 0.0
    return [f"other load: other processes used {min(share, 1.0):.0%} of the CPUs"] if share > OTHERS else []
