"""Measuring: the loop, the warm-up, the statistics and the doubts, on clocks that the tests turn."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import RunError, UsageError
from harness.latency.doubts import conditions_doubts, sample_doubts
from harness.latency.measure import Sampling, interleave, measure
from harness.latency.samples import Latency, describe


class FakeClock:
    """Nanoseconds that advance only when a call says so."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


class QuietProbe:
    def read(self) -> dict[str, float]:
        return {}

    def memory(self) -> dict[str, int]:
        return {"process_bytes": 7}


SHORT = Sampling(rounds=4, max_samples=40, max_time_s=0.0008)


def timed(durations_ns, sampling=SHORT, feeds=("a",), **options) -> Latency:
    """A measurement in which call number i takes the i-th of `durations_ns` (the last one repeats)."""
    clock, turns = FakeClock(), itertools.chain(durations_ns, itertools.repeat(durations_ns[-1]))

    def call(_feed):
        clock.now += next(turns)

    return measure(call, feeds, sampling, clock=clock, probe=QuietProbe(), **options)


def test_samples_are_the_calls_durations_in_seconds_with_warmup_apart():
    latency = timed([50_000] * 5 + [20_000])
    assert set(latency.samples_s) == {20e-6}
    assert latency.warmup_s[0] == 50e-6
    assert latency.round_sizes == (10, 10, 10, 10)
    assert latency.p50_s == pytest.approx(20e-6)
    assert latency.throughput_per_s == pytest.approx(50_000)
    assert latency.memory_bytes == {"process_bytes": 7}


def test_warmup_goes_on_until_the_rolling_median_settles():
    falling = [100_000 - 800 * i for i in range(100)] + [20_000]
    latency = timed(falling)
    assert len(latency.warmup_s) >= 100
    assert max(latency.samples_s) == 20e-6
    assert not any("settle" in doubt for doubt in latency.doubts)


def test_a_warmup_that_never_settles_ends_in_time_and_is_doubted():
    ever_slower = [int(1e6 * 1.05**i) for i in range(300)]
    latency = timed(ever_slower, Sampling(rounds=2, max_samples=4, warmup_time_s=0.1))
    assert "the warm-up did not settle in the time allowed" in latency.doubts


def test_feeds_take_turns():
    seen = []
    measure(seen.append, ["a", "b", "c"], Sampling(rounds=2, max_samples=12), probe=QuietProbe())
    assert all(x != y for x, y in itertools.pairwise(seen))
    assert set(seen) == {"a", "b", "c"}


def test_slow_calls_get_few_samples_and_say_so():
    latency = timed([10**9], Sampling(rounds=3, min_per_round=2, max_time_s=1.0))
    assert latency.round_sizes == (2, 2, 2)
    assert any("too few samples: 6" in doubt for doubt in latency.doubts)


def test_samples_of_a_clock_going_backwards_are_left_out_and_counted():
    latency = timed([20_000] * 20 + [-5_000] * 3 + [20_000])
    assert min(latency.samples_s) > 0
    assert len(latency.samples_s) == 37
    assert any("went backwards: in 3 of 40" in doubt for doubt in latency.doubts)


@pytest.mark.parametrize("step", [0, -10])
def test_a_clock_that_never_runs_forward_is_one_clear_error(step):
    with pytest.raises(RunError, match="clock never ran forward"):
        timed([step], Sampling(rounds=2, max_samples=8, warmup_calls=50))


def test_no_feeds_is_one_clear_error():
    with pytest.raises(UsageError, match="no feeds"):
        measure(print, [])


def test_device_time_is_apart_from_host_time():
    class Events:
        pairs = 0

        def start(self):
            pass

        def stop(self):
            self.pairs += 1

        def times_s(self):
            count, self.pairs = self.pairs, 0
            return [3e-6] * count

    latency = timed([20_000], device_timer=Events())
    assert latency.device_p50_s == 3e-6
    assert len(latency.device_samples_s) == len(latency.samples_s) == 40
    assert latency.p50_s == pytest.approx(20e-6)


def test_interleaved_calls_share_the_rounds():
    order = []
    both = interleave(
        {"base": lambda _: order.append("base"), "new": lambda _: order.append("new")},
        ["x"],
        Sampling(rounds=4, max_samples=16, max_time_s=0.01),
        probe=QuietProbe(),
    )
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns == ["base", "new", "base", "new", "base", "new", "base"][: len(turns)]
    assert len(turns) >= 5
    assert len(both["base"].round_sizes) == len(both["new"].round_sizes) == 4


def test_a_single_sample_shows_no_spread():
    one = Latency(samples_s=(0.002,), round_sizes=(1,))
    assert (one.p90_s, one.p99_s, one.mad_s) == (None, None, None)
    assert describe(one) == "p50 2 ms, 500 samples/s, 1 call"


def test_rounds_must_hold_all_samples():
    with pytest.raises(UsageError, match="2 samples do not fill rounds"):
        Latency(samples_s=(1.0, 2.0), round_sizes=(1,))


times = st.lists(st.floats(1e-7, 10.0), min_size=1, max_size=30)


@given(st.lists(times, min_size=1, max_size=5), st.integers(1, 64))
def test_json_round_trip_keeps_raw_samples_and_derives_the_same(rounds, batch):
    latency = Latency(
        samples_s=tuple(itertools.chain.from_iterable(rounds)),
        round_sizes=tuple(map(len, rounds)),
        batch=batch,
        settled=False,
        lost=2,
    )
    back = Latency.from_json(json.loads(json.dumps(latency.to_json())))
    assert back == latency
    assert back.rounds_s == [tuple(times) for times in rounds]
    assert min(latency.samples_s) <= back.p50_s <= max(latency.samples_s)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"samples_s": [0.1]},
        {"samples_s": ["x"], "round_sizes": [1]},
        {"samples_s": [-1.0], "round_sizes": [1]},
        {"samples_s": [float("nan")], "round_sizes": [1]},
        {"samples_s": 3, "round_sizes": [1]},
    ],
)
def test_unreadable_latency_is_one_clear_line(broken):
    with pytest.raises(UsageError) as caught:
        Latency.from_json(broken)
    assert "\n" not in str(caught.value)


def test_samples_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Latency(samples_s=(1.0,), round_sizes=(1,)).batch = 2  # type: ignore[misc]


STEADY = [[1.0, 1.001, 0.999, 1.0] * 3] * 10


def test_steady_samples_raise_no_doubt():
    assert sample_doubts(STEADY) == ()


@pytest.mark.parametrize(
    ("rounds", "said"),
    [
        ([[1.0] * 5], "too few samples: 5"),
        ([[1.0] * 40], "few samples for p99: 40"),
        ([[1.0, 1.3] * 60], "wide spread"),
        ([[1.0] * 100 + [9.0] * 5], "long tail"),
        ([[1.0 + 0.02 * i] * 20 for i in range(10)], "drift: the last third is +1"),
    ],
)
def test_each_doubt_is_stated(rounds, said):
    assert any(said in doubt for doubt in sample_doubts(rounds))


BEFORE = {"wall_s": 0.0, "busy_s": 0.0, "own_s": 0.0, "cpus": 2.0, "clock_mhz": 3000.0, "throttle_count": 4.0}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"clock_mhz": 2000.0}, "clocks changed: clock_mhz from 3000 to 2000"),
        ({"throttle_count": 6.0}, "throttle_count rose by 2"),
        ({"gpu_throttle_reasons": "thermal"}, "throttled: thermal"),
        ({"busy_s": 15.0, "own_s": 9.0, "wall_s": 10.0}, "other processes used 30% of the CPUs"),
    ],
)
def test_each_disturbance_of_the_machine_is_stated(after, said):
    assert said in " ".join(conditions_doubts(BEFORE, BEFORE | after))


def test_a_quiet_machine_raises_no_doubt():
    after = BEFORE | {"busy_s": 9.5, "own_s": 9.0, "wall_s": 10.0, "clock_mhz": 3050.0}
    assert conditions_doubts(BEFORE, after) == ()
    assert conditions_doubts({}, {}) == ()


def test_the_real_clock_and_probe_work():
    latency = measure(lambda feed: sum(range(feed)), [1000, 1001], Sampling(rounds=3, max_time_s=0.05))
    assert latency.p50_s > 0
    assert latency.memory_bytes["process_bytes"] > 1_000_000
    assert {"busy_s", "own_s", "wall_s", "cpus"} <= set(latency.conditions["before"])
