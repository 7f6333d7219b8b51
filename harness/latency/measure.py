"""Latency: warm up until it settles, keep raw samples, derive the statistics, state the doubts.

Samples come in rounds spread over the time allowed, because what disturbs a machine comes in bursts:
samples of one round resemble each other, and only rounds can be counted as independent.  Host time
and device time are two measurements of the same call, taken in alternating blocks so that events
never run inside a host sample.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from harness.errors import RunError, UsageError
from harness.latency.doubts import during
from harness.latency.machine import MachineProbe, Probe
from harness.latency.samples import Latency

Call = Callable[[Any], Any]
Clock = Callable[[], int]
Seen = tuple[dict[str, int], list[Mapping[str, Any]]]

MIN_ROUNDS = 5
WINDOW = 5
"""Warm-up calls whose medians are compared with each other."""
SETTLED = 0.03
"""Relative change between two windows' medians that ends the warm-up."""
RESUME, MOST_BETWEEN = 3, 100_000
"""Least and most calls between two rounds that are not recorded."""


class DeviceTimer(Protocol):
    """Pairs of events on the stream that the engine runs on."""

    def start(self) -> None:
        """Record the first event of a pair."""

    def stop(self) -> None:
        """Record the second event of a pair."""

    def times_s(self) -> list[float]:
        """Wait for the device; seconds of every pair since the last call, in order."""


@dataclass(frozen=True)
class Sampling:
    """How much is measured: `max_samples` and `max_time_s` count all rounds together, warm-up apart.

    Rounds are spread over `max_time_s`, of which a quick call's samples take a part only.
    The warm-up takes `warmup_least_s` at least: a device that wakes up slowly looks settled before.
    `min_per_round` and `min_samples` hold even where that takes longer than `max_time_s`; slow calls get
    fewer rounds, but never fewer than `MIN_ROUNDS`.
    """

    rounds: int = 40
    min_per_round: int = 3
    min_samples: int = 1
    max_samples: int = 1000
    max_time_s: float = 2.0
    warmup_time_s: float = 2.0
    warmup_least_s: float = 0.0
    warmup_calls: int = 10_000
    pause_s: float = 0.0

    def __post_init__(self) -> None:
        counts = (self.rounds, self.min_per_round, self.min_samples, self.max_samples, self.warmup_calls)
        if min(counts) < 1 or min(self.max_time_s, self.warmup_time_s, self.warmup_least_s, self.pause_s) < 0:
            raise UsageError(f"{self}: counts must be >= 1, times >= 0")

    def fitted(self, typical_s: float) -> tuple[int, int]:
        """Number of rounds, and samples in each, for a call that takes about `typical_s`."""
        calls = int(self.max_time_s / max(typical_s, 1e-9))
        least = min(self.rounds, MIN_ROUNDS)
        rounds = min(self.rounds, max(least, 2 * calls // self.min_per_round))
        wanted = max(self.min_samples, min(calls, self.max_samples))
        return rounds, max(self.min_per_round, -(-wanted // rounds))


def measure(
    call: Call,
    feeds: Sequence[Any],
    sampling: Sampling = Sampling(),
    *,
    batch: int = 1,
    clock: Clock = time.perf_counter_ns,
    probe: Probe | None = None,
    device_timer: DeviceTimer | None = None,
    enqueue: Call | None = None,
    prepare: Call | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Latency:
    """Time `call(feed)` with `feeds` in turn, so that caches hold no more than they would in use.

    `clock` counts nanoseconds.  `batch` is the number of samples in one feed (for the throughput).
    `settings` is recorded as it is: thread counts, copies, CUDA graph.  `enqueue` is `call` without the
    wait for its end, which is what lies between the events of `device_timer`; by default `call` itself.
    `prepare` comes before the first of these events.

    Raises: UsageError without feeds; RunError when the clock never ran forward.
    """
    found = interleave(
        {"": call}, feeds, sampling,
        batch=batch, clock=clock, probe=probe, device_timer=device_timer, enqueue=enqueue, prepare=prepare,
        settings=settings,
    )  # fmt: skip
    return found[""]


def interleave(
    calls: Mapping[str, Call],
    feeds: Sequence[Any],
    sampling: Sampling,
    *,
    batch: int = 1,
    clock: Clock = time.perf_counter_ns,
    probe: Probe | None = None,
    device_timer: DeviceTimer | None = None,
    enqueue: Call | None = None,
    prepare: Call | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Latency]:
    """Measure several calls round by round in turn, so that a drifting machine touches all alike.

    Options and errors are those of `measure`.  The order turns round from round to round.
    """
    if not feeds:
        raise UsageError("latency: no feeds to run: at least one sample is needed")
    probe = probe or MachineProbe()
    meters = {
        name: _Meter(call, enqueue or call, itertools.cycle(feeds), clock, device_timer, prepare or _nothing)
        for name, call in calls.items()
    }
    with _collector_paused():
        for meter in meters.values():
            meter.warm_up(sampling)
        before = probe.read()
        memory, seen = _rounds(list(meters.values()), sampling, probe)
    facts = {
        "batch": batch,
        "memory_bytes": memory,
        "settings": {"gc": "off", **(settings or {})},
        "conditions": {"before": before, "during": during(seen), "after": probe.read()},
    }
    return {name: meter.latency(facts) for name, meter in meters.items()}


def _rounds(meters: Sequence[_Meter], sampling: Sampling, probe: Probe) -> Seen:
    """Take all rounds of all meters in turn; the largest memory and every state seen right after each."""
    number, per_round = sampling.fitted(max(meter.typical_s for meter in meters))
    memory: dict[str, int] = {}
    states: list[Mapping[str, Any]] = []
    for turn in range(number):
        for meter in meters if turn % 2 == 0 else reversed(meters):
            meter.between(sampling.max_time_s / number, per_round)
            meter.take(per_round)
        states.append(probe.read())
        memory = {key: max(value, memory.get(key, 0)) for key, value in probe.memory().items()}
        gc.collect(0)
        time.sleep(sampling.pause_s)
    return memory, states


@dataclass
class _Meter:
    """One call being measured; times in nanoseconds, device times in seconds."""

    call: Call
    enqueue: Call
    turns: Iterator[Any]
    clock: Clock
    device_timer: DeviceTimer | None
    prepare: Call
    warmup: list[int] = field(default_factory=list)
    settled: bool = False
    rounds: list[list[int]] = field(default_factory=list)
    device: list[float] = field(default_factory=list)

    def warm_up(self, sampling: Sampling) -> None:
        """Call until the rolling median settles, or the time or number allowed is spent."""
        start = self.clock()
        while len(self.warmup) < sampling.warmup_calls:
            self.warmup += self._timed(1)
            self.settled = _settled(self.warmup)
            spent_s = abs(self.clock() - start) * 1e-9
            if self.settled and spent_s >= sampling.warmup_least_s:
                break
            if spent_s > sampling.warmup_time_s and len(self.warmup) >= WINDOW:
                break

    def between(self, slot_s: float, count: int) -> None:
        """Calls that are not recorded, so that they and a round of `count` calls fill a slot of time.

        They spread the rounds of a quick call, keep clocks up, and refill caches after another call.
        """
        spare = max(RESUME, int(min(slot_s / max(self.typical_s, 1e-7) - count, MOST_BETWEEN)))
        for feed in itertools.islice(self.turns, spare):
            self.call(feed)

    def take(self, count: int) -> None:
        """One round of `count` calls."""
        self.rounds.append(self._timed(count))
        if self.device_timer is not None:
            turns = itertools.islice(self.turns, count)
            self.device += _device_timed(self.prepare, self.enqueue, turns, self.device_timer)

    @property
    def typical_s(self) -> float:
        """Median of the last warm-up calls; 0 where the clock stood still."""
        last = np.asarray(self.warmup[-2 * WINDOW :], float)
        return max(float(np.median(last)) * 1e-9, 0.0)

    def latency(self, facts: Mapping[str, Any]) -> Latency:
        """What was measured, with `facts` as further fields.  Raises RunError."""
        kept = [_forward(times) for times in self.rounds]
        if not any(kept):
            raise RunError("latency: the clock never ran forward: there is no sample to keep")
        return Latency(
            samples_s=tuple(itertools.chain.from_iterable(kept)),
            round_sizes=tuple(len(times) for times in kept if times),
            warmup_s=_forward(self.warmup),
            device_samples_s=tuple(self.device),
            settled=self.settled,
            lost=sum(map(len, self.rounds)) - sum(map(len, kept)),
            **facts,
        )

    def _timed(self, count: int) -> list[int]:
        return timed(self.call, itertools.islice(self.turns, count), self.clock)


def _settled(times: Sequence[int]) -> bool:
    if len(times) < 2 * WINDOW:
        return False
    old, new = np.asarray(times[-2 * WINDOW :], float).reshape(2, WINDOW)
    middle = float(np.median(new))
    spread = float(np.median(np.abs(new - middle)))
    return bool(abs(middle - np.median(old)) <= SETTLED * middle + spread)


def timed(call: Call, feeds: Iterator[Any], clock: Clock) -> list[int]:
    """The timing loop: two clock readings and one append around each call, nothing else."""
    times: list[int] = []
    add = times.append
    for feed in feeds:
        start = clock()
        call(feed)
        add(clock() - start)
    return times


def _device_timed(prepare: Call, call: Call, feeds: Iterator[Any], timer: DeviceTimer) -> list[float]:
    for feed in feeds:
        prepare(feed)
        timer.start()
        call(feed)
        timer.stop()
    return timer.times_s()


def _nothing(feed: Any) -> None:
    """Most calls need no preparation."""


def _forward(times: Sequence[int]) -> tuple[float, ...]:
    """Seconds of the samples during which the clock ran forward."""
    return tuple(round(value * 1e-9, 9) for value in times if value > 0)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Python's cyclic collector off: a collection inside a sample is no property of the engine."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
