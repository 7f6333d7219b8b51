"""Benchmarking one engine: where, on what feeds, and only once its outputs were compared."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from harness.backends.base import BackendInfo
from harness.data.inputs import Feeds
from harness.errors import UsageError
from harness.latency.bench import Bench, LatencyRun, machine, rotation
from harness.latency.measure import Sampling
from harness.latency.points import points
from harness.latency.samples import Latency
from harness.plugin.regression import explain, regressed, retaken
from harness.precision import Precision
from harness.spec.model_spec import ModelSpec
from harness.spec.terms import Terms
from tests.helpers.results import latency, latency_record

INFO = BackendInfo("onnxruntime", "1.31.0", "CPUExecutionProvider", "Xeon", {"intra_op_threads": "2"})
SHORT = Sampling(rounds=5, max_samples=20, max_time_s=0.01)


def spec_of(batch_sizes=(), profiles=None, **fields) -> ModelSpec:
    shapes = {"x": {"min": [1, 4], "opt": [2, 4], "max": [8, 4]}}
    data = {"dtype": "float32", "data": {"generator": "normal"}}
    return ModelSpec.model_validate(
        {
            "name": "net",
            "model": {"onnx": "model.onnx"},
            "inputs": {"x": data},
            "profiles": profiles or [{"shapes": shapes}],
            "benchmark": {"batch_sizes": batch_sizes},
            **fields,
        }
    )


class Doubler:
    """An engine that doubles, with an error where it is told to have one."""

    def __init__(self, error: float = 0.0) -> None:
        self.error, self.seen = error, []

    def run(self, feeds, _profile=0):
        self.seen.append(feeds["x"][0, 0].item())
        return {"y": feeds["x"] * 2 + self.error}


def bench_of(engine, spec=None) -> Bench:
    spec = spec or spec_of((2,))
    fp32 = Precision.FP32
    reference = lambda feeds: {"y": feeds["x"] * 2}  # noqa: E731
    return Bench(spec, Terms.of(fp32), engine, Feeds(spec), reference)


def run_of(bench, **fields) -> LatencyRun:
    manifest = SimpleNamespace(engine_bytes=100, build_s=0.5, hash="abc")
    return LatencyRun(bench, SimpleNamespace(manifest=manifest), INFO, SHORT, **fields)


def test_points_are_the_batch_sizes_in_every_profile_that_allows_them():
    small = {"name": "small", "shapes": {"x": {"min": [1, 4], "opt": [2, 4], "max": [4, 4]}}}
    large = {"name": "large", "shapes": {"x": {"min": [4, 4], "opt": [8, 4], "max": [64, 4]}}}
    found = points(spec_of((1, 4, 32), [small, large]))
    assert [point.id for point in found] == ["small-b1", "small-b4", "large-b4", "large-b32"]
    assert found[2].shapes == {"x": (4, 4)}
    assert found[2].profile == 1


def test_without_batch_sizes_the_opt_shapes_are_taken():
    assert [(point.id, point.shapes) for point in points(spec_of())] == [("default-b2", {"x": (2, 4)})]


def test_a_batch_size_outside_every_profile_is_one_line():
    with pytest.raises(UsageError, match=r"benchmark.batch_sizes = \[9\]: fits no profile"):
        points(spec_of((1, 9)))


def test_an_input_without_a_batch_axis_keeps_its_shape():
    shapes = {"x": {"min": [1, 4], "opt": [2, 4], "max": [8, 4]}, "state": [3, 5]}
    data = {"dtype": "float32", "data": {"generator": "normal"}}
    spec = spec_of((4,), [{"shapes": shapes}], inputs={"x": data, "state": {**data, "batch_axis": None}})
    assert points(spec)[0].shapes == {"x": (4, 4), "state": (3, 5)}


def test_feeds_rotate_over_different_samples():
    spec = spec_of((2,))
    feeds = rotation(Feeds(spec), points(spec)[0])
    assert len(feeds) == 8
    assert len({feed["x"].tobytes() for feed in feeds}) == 8


def test_a_right_engine_is_measured_and_passes():
    engine = Doubler()
    run = run_of(bench_of(engine))
    point = points(run.bench.spec)[0]
    record = run.judged(point, run.take(point))
    assert (record.verdict, record.manifest, record.data["batch"]) == ("pass", "abc", 2)
    assert record.data["p50_s"] > 0
    assert record.data["machine"] == machine(INFO)
    assert Latency.from_json(record.data["host"]).batch == 2
    assert len(set(engine.seen)) > 4


def test_memory_is_the_most_of_all_that_was_measured():
    run = run_of(bench_of(Doubler()))
    point = points(run.bench.spec)[0]
    most, less = ({"process_bytes": size, f"only_{size}": 1} for size in (9, 5))
    found = {
        "host": latency(memory_bytes=most),
        "download": latency(memory_bytes=less, settings={"nbytes": 8}),
    }
    made = run.judged(point, found).data["memory_bytes"]
    assert made == {"process_bytes": 9, "only_9": 1, "only_5": 1}


def test_a_wrong_engine_is_unverified_and_says_why():
    run = run_of(bench_of(Doubler(error=0.5)))
    point = points(run.bench.spec)[0]
    record = run.judged(point, run.take(point))
    assert record.verdict == "unverified"
    assert "mre" in record.message


class DeviceRun:
    """A run on a device whose copies are instant; `noted` has what was called."""

    nbytes = {"upload": 32, "download": 16}  # noqa: RUF012 - as a property

    def __init__(self, outputs, noted) -> None:
        self.outputs, self.noted = outputs, noted

    def __call__(self) -> None:
        self.noted.append("run")

    def __getattr__(self, name):
        return lambda: self.noted.append(name)

    def fetch(self):
        return self.outputs


class OnDevice(Doubler):
    """An engine between device buffers, which write `wrong` too much."""

    def __init__(self, wrong: float = 0.0) -> None:
        super().__init__()
        self.wrong, self.noted = wrong, []

    def residents(self, feeds, _profile=0):
        return [DeviceRun({"y": feed["x"] * 2 + self.wrong}, self.noted) for feed in feeds]

    def timer(self):
        taken = []
        take = lambda: [taken.pop() for _ in taken[:]]  # noqa: E731
        return SimpleNamespace(start=lambda: taken.append(2e-6), stop=lambda: None, times_s=take)


def test_an_engine_with_device_buffers_gives_device_times_and_the_copies_apart():
    engine = OnDevice()
    run, (point,) = run_of(bench_of(engine)), points(spec_of((2,)))
    record = run.judged(point, run.take(point))
    assert record.verdict == "pass"
    assert record.data["device_p50_s"] == 2e-6
    assert record.data["resident"]["settings"]["copies"] == "none"
    assert record.data["copies"]["upload"]["nbytes"] == 32
    assert record.data["copies"]["download"]["device_p50_s"] == 2e-6
    called = {"run", "prepare", "enqueue", "upload", "start_upload", "download", "start_download"}
    assert set(engine.noted) == called
    number = engine.noted.index("enqueue")
    assert engine.noted[number - 1] == "prepare"


def test_what_is_timed_on_the_device_is_compared_too():
    run, (point,) = run_of(bench_of(OnDevice(wrong=1.0))), points(spec_of((2,)))
    assert run.judged(point, run.take(point)).verdict == "unverified"


def test_without_a_device_there_are_no_copies():
    run, (point,) = run_of(bench_of(Doubler())), points(spec_of((2,)))
    assert run.judged(point, run.take(point)).data["copies"] is None


def test_the_baselines_engine_is_measured_in_turn():
    run = run_of(bench_of(Doubler()), base=("old", bench_of(Doubler())))
    point = points(run.bench.spec)[0]
    record = run.judged(point, run.take(point))
    assert record.data["interleaved"]["manifest"] == "old"
    beside = Latency.from_json(record.data["interleaved"]["host"])
    assert beside.round_sizes == Latency.from_json(record.data["host"]).round_sizes


def slow(seed: int = 0) -> Latency:
    return Latency.from_json(latency_record(p50_s=1.5e-3, seed=seed).data["host"])


def quick(seed: int = 0) -> Latency:
    return Latency.from_json(latency_record(seed=seed).data["host"])


def test_a_suspicion_is_measured_again_and_stays_if_it_is_slow_each_time():
    baseline = [latency_record(seed=7), latency_record(seed=8)]
    taken = iter([slow(1), slow(2), slow(3)])
    record = retaken(latency_record(p50_s=1.5e-3), baseline, lambda: {"host": next(taken)})
    assert len(record.data["repeats"]) == 2
    (found,) = regressed([record], baseline)
    assert found.figure == "p50_s"
    assert "p50_s" in explain([found])


def test_a_suspicion_that_does_not_come_back_is_dropped():
    baseline = [latency_record(seed=7)]
    record = retaken(latency_record(p50_s=1.5e-3), baseline, lambda: {"host": quick()})
    assert len(record.data["repeats"]) == 1
    assert regressed([record], baseline) == []


def test_a_latency_as_before_is_measured_once():
    record = retaken(latency_record(), [latency_record(seed=7)], lambda: pytest.fail("measured again"))
    assert "repeats" not in record.data


def test_cases_that_only_the_baseline_has_are_no_regression():
    assert regressed([latency_record("a")], [latency_record("a"), latency_record("b")]) == []


def test_feeds_fit_into_memory(monkeypatch):
    monkeypatch.setattr("harness.latency.bench.ROTATION_BYTES", 3 * np.float32().nbytes * 8)
    spec = spec_of((2,))
    assert len(rotation(Feeds(spec), points(spec)[0])) == 3


def beside(own: Latency, base: Latency):
    """A record interleaved with the baseline's engine, and the baseline's record."""
    data = {"host": own.to_json(), "interleaved": {"manifest": "old", "host": base.to_json()}}
    return latency_record(data=data), [latency_record(manifest="old")]


def noisy(seed: int, factor: float = 1.0) -> Latency:
    times = 1e-3 * factor * np.exp(np.random.default_rng(seed).normal(0, 0.3, 20))
    return Latency(tuple(times.tolist()), (1,) * 20)


def test_noise_beside_the_baselines_engine_is_narrowed_by_more_pairs():
    record, baseline = beside(noisy(1), noisy(2))
    more = retaken(record, baseline, lambda: {"host": noisy(3), "base": noisy(4)})
    assert len(more.data["repeats"]) == len(more.data["interleaved"]["repeats"]) == 2


def test_quiet_pairs_are_measured_once():
    record, baseline = beside(quick(1), quick(2))
    assert "repeats" not in retaken(record, baseline, lambda: pytest.fail("measured again")).data


def test_a_slow_call_whose_few_pairs_decide_nothing_is_measured_again():
    def few(seed: int, p50_s: float) -> Latency:
        return latency(seed, p50_s, rounds=5, samples=3)

    record, baseline = beside(few(1, 1.2), few(2, 1.0))
    assert regressed([record], baseline) == []
    more = retaken(record, baseline, lambda: {"host": few(3, 1.2), "base": few(4, 1.0)})
    assert [found.figure for found in regressed([more], baseline)] == ["p50_s"]


def test_a_slowdown_beside_the_baselines_engine_stays_found():
    record, baseline = beside(slow(1), quick(2))
    more = retaken(record, baseline, lambda: {"host": slow(3), "base": quick(4)})
    assert [found.figure for found in regressed([more], baseline)] == ["p50_s"]
