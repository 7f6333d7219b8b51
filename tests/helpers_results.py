"""Runs made up for tests of reports: plain data of every kind that a real run leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.latency import Latency
from harness.report.records import Record
from harness.report.results import Results, TestOutcome

MACHINE = {
    "provider": "CPUExecutionProvider", "device": "Xeon", "driver": "none", "version": "1.31.0",
    "threads": "2", "cuda_graph": "off", "copies": "host to host",
}  # fmt: skip
STARTED = "2026-06-01T02:00:00+00:00"


def latency(
    seed: int = 0, p50_s: float = 1e-3, rounds: int = 10, samples: int = 20, **fields: Any
) -> Latency:
    """A quiet latency around `p50_s`."""
    rng = np.random.default_rng(seed)
    times = p50_s * np.exp(np.abs(rng.normal(0, 0.01, rounds * samples)))
    fields.setdefault("batch", 1)
    return Latency(tuple(times.tolist()), (samples,) * rounds, **fields)


def latency_record(model: str = "mnist", precision: str = "fp16", **fields: Any) -> Record:
    """A latency record; `machine`, `data` and those of `latency` are optional."""
    machine = fields.pop("machine", MACHINE)
    data = fields.pop("data", {})
    shapes = fields.pop("shapes", {"x": [1, 28, 28]})
    made = latency(**{k: fields.pop(k) for k in ("seed", "p50_s", "batch") if k in fields})
    figures = {"p50_s": made.p50_s, "batch": made.batch, "machine": dict(machine), "host": made.to_json()}
    known = {"profile": "default", "shapes": shapes, "verdict": "pass", "backend": "onnxruntime"} | fields
    return Record("latency", model, precision, data=figures | data, **known)


def outputs_record(model: str = "mnist", precision: str = "fp16", mre: Any = 2e-4, **fields: Any) -> Record:
    """An outputs record with one output."""
    data = {"label": "opt", "mre": mre, "limit": 5e-3, "expected": 1e-3} | fields.pop("data", {})
    known = {"profile": "default", "shapes": {"x": [1, 28, 28]}, "verdict": "pass"} | fields
    known.setdefault("backend", "onnxruntime")
    return Record("outputs", model, precision, data=data, **known)


def run(*records: Record, name: str = "run-a", started: str = STARTED, **fields: Any) -> Results:
    """A finished run of `records`."""
    outcomes = tuple(TestOutcome(r.nodeid or f"suites/{i}", "passed") for i, r in enumerate(records))
    environment: Mapping[str, Any] = {"harness": "0.1.0", "processor": "Xeon", "python": "3.12.1"}
    known = {"environment": environment, "tests": outcomes, "complete": True, "exit_status": 0} | fields
    return Results(name, started, finished=started, records=tuple(records), **known)


def names(items: Sequence[Any]) -> list[str]:
    """Every item as text."""
    return [str(item) for item in items]
