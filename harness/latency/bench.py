"""The latency of one engine at the batch sizes of its spec, once its own outputs were compared.

An engine may offer more than `run`: runs between device buffers (`bench_device.OnDevice`).  Where it does,
these and the copies are timed too, and what they write is compared as well; host time end to end always is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.backends.base import BackendInfo, Engine, Tensors
from harness.backends.cuda.gpu_facts import cpu_name
from harness.comparison.compare import compare_outputs
from harness.comparison.explain import explain
from harness.comparison.result import OutputsComparison
from harness.data.batches import stacked
from harness.data.inputs import Feeds
from harness.engines.engine import BuiltEngine
from harness.latency.bench_device import copies, device_latencies, device_outputs, on_device
from harness.latency.machine import Probe, memory_speed, threads
from harness.latency.measure import Sampling, interleave
from harness.latency.points import Point
from harness.latency.samples import Latency
from harness.precision import Precision
from harness.records import Record
from harness.spec.model_spec import ModelSpec
from harness.spec.terms import Terms
from harness.verdict.tasks import feeds_needed

ROTATION = 8
ROTATION_BYTES = 256 * 2**20
"""Feeds that rotate, and the bytes that they may take together."""


@dataclass(frozen=True)
class Bench:
    """One engine, ready to be measured at points of its spec.

    `reference` gives the expected outputs of a feed; `probe` watches the machine.
    """

    spec: ModelSpec
    terms: Terms
    engine: Engine
    feeds: Feeds
    reference: Callable[[Tensors], Mapping[str, Any]]
    probe: Probe | None = None

    @property
    def precision(self) -> Precision:
        """The precision that was asked for."""
        return self.terms.precision

    def compared(self, point: Point) -> OutputsComparison:
        """This engine's outputs at the point, on as many samples as the outputs test takes.

        Where it runs between device buffers, what it writes there decides if what it returns is right.
        """
        rows, count = self.feeds.rows(point.shapes), feeds_needed(self.feeds, point.shapes)
        feeds = [self.feeds.feed(point.shapes, k * rows) for k in range(count)]
        found = self._compared([self.engine.run(feed, point.profile) for feed in feeds], feeds)
        device = on_device(self.engine)
        if device is None or not found.quality:
            return found
        return self._compared(device_outputs(device, feeds, point.profile), feeds)

    def _compared(self, actual: Sequence[Mapping[str, Any]], feeds: Sequence[Tensors]) -> OutputsComparison:
        rows = self.feeds.rows({name: array.shape for name, array in feeds[0].items()})
        expected = [self.reference(feed) for feed in feeds]
        ours, theirs = stacked(actual, rows, expected[0]), stacked(expected, rows)
        return compare_outputs(ours, theirs, self.terms)

    def call(self, point: Point) -> Callable[[Tensors], Any]:
        """What is timed: one run from arrays in host memory to arrays in host memory."""
        run, profile = self.engine.run, point.profile
        return lambda feed: run(feed, profile)

    def host(
        self, point: Point, sampling: Sampling, settings: Mapping[str, Any], base: Bench | None = None
    ) -> dict[str, Latency]:
        """Host latency (`host`), and that of another engine measured in turn with it (`base`)."""
        calls = {"host": self.call(point)} | ({"base": base.call(point)} if base else {})
        feeds = rotation(self.feeds, point)
        return interleave(calls, feeds, sampling, batch=point.batch, settings=settings, probe=self.probe)

    def resident(self, point: Point, sampling: Sampling, settings: Mapping[str, Any]) -> dict[str, Latency]:
        """Latency without copies, device times, and the copies alone, where the engine offers them."""
        device = on_device(self.engine)
        if device is None:
            return {}
        feeds, options = rotation(self.feeds, point), {"batch": point.batch, "probe": self.probe}
        return device_latencies(device, feeds, point.profile, sampling, settings, **options)


def rotation(feeds: Feeds, point: Point) -> list[dict[str, Any]]:
    """Feeds of different samples that take turns, as many as fit into ROTATION_BYTES."""
    rows = feeds.rows(point.shapes)
    first = feeds.feed(point.shapes, 0)
    size = sum(array.nbytes for array in first.values())
    count = min(ROTATION, math.ceil(feeds.samples / rows), max(1, ROTATION_BYTES // max(1, size)))
    return [first, *(feeds.feed(point.shapes, k * rows) for k in range(1, count))]


def machine(info: BackendInfo) -> dict[str, str]:
    """What a latency depends on besides the engine; baselines compare only where all of it agrees."""
    own = threads()
    intra, inter = (info.details.get(f"{kind}_op_threads", "default") for kind in ("intra", "inter"))
    return {
        "provider": info.provider,
        "device": info.device,
        "driver": info.details.get("driver", "none"),
        "version": info.version,
        "threads": f"intra {intra}, inter {inter}, cpus {own['cpus']}, OMP {own['OMP_NUM_THREADS']}",
        "cuda_graph": info.details.get("cuda_graph", "off"),
        "copies": "host to host",
        "processor": cpu_name(),
        "memory": memory_speed(),
    }


def data(point: Point, built: BuiltEngine, info: BackendInfo, found: Mapping[str, Latency]) -> dict[str, Any]:
    """The record's `data`, as reports/README.md describes it."""
    host, resident = found["host"], found.get("resident")
    figures = ("p50_s", "p90_s", "p99_s", "mad_s", "throughput_per_s")
    return {
        "batch": point.batch,
        **{name: getattr(host, name) for name in figures},
        "device_p50_s": resident.device_p50_s if resident else None,
        "resident_p50_s": resident.p50_s if resident else None,
        "memory_bytes": _peak([latency.memory_bytes for latency in found.values()]),
        "engine_bytes": built.manifest.engine_bytes,
        "build_s": built.manifest.build_s,
        "machine": machine(info),
        "host": host.to_json(),
        "resident": resident.to_json() if resident else None,
        "copies": copies(found),
    }


def _peak(seen: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The largest of each kind."""
    return {
        kind: max(one.get(kind, 0) for one in seen) for kind in dict.fromkeys(k for one in seen for k in one)
    }


Retake = Callable[[Record, Callable[[], Mapping[str, Latency]]], Record]


@dataclass(frozen=True)
class LatencyRun:
    """Measures an engine and makes its records; `base` is a baseline's engine with its manifest's hash.

    `retake` measures again where a record looks slower than its baseline.
    """

    bench: Bench
    built: BuiltEngine
    info: BackendInfo
    sampling: Sampling
    retake: Retake = lambda made, _: made
    base: tuple[str, Bench] | None = None

    def take(self, point: Point) -> dict[str, Latency]:
        """All latencies of one point, those of the baseline's engine (`base`) among them if there is one."""
        return self._host(point) | self.bench.resident(point, self.sampling, machine(self.info))

    def _host(self, point: Point) -> dict[str, Latency]:
        base = self.base[1] if self.base else None
        return self.bench.host(point, self.sampling, machine(self.info), base)

    def judged(self, point: Point, found: Mapping[str, Latency]) -> Record:
        """The record: `unverified` where this engine's own outputs do not pass; measured again if slower."""
        compared = self.bench.compared(point)
        figures = data(point, self.built, self.info, found)
        figures["outputs"] = {"mre": compared.mre, "limit": self.bench.terms.tolerance.limit}
        if self.base is not None:
            figures["interleaved"] = {"manifest": self.base[0], "host": found["base"].to_json()}
        made = Record(
            "latency",
            self.bench.spec.name,
            str(self.bench.precision),
            self.info.backend,
            "pass" if compared.quality else "unverified",
            profile=point.name,
            shapes={name: list(shape) for name, shape in point.shapes.items()},
            data=figures,
            manifest=self.built.manifest.hash,
            message="" if compared.quality else explain(compared, "the deployed engine"),
        )
        return self.retake(made, lambda: self._host(point))
