"""Runs made up for tests of reports: plain data of every kind that a real run leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.latency.samples import Latency
from harness.records import Record
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


def engine_record(model: str = "mnist", precision: str = "fp16", **fields: Any) -> Record:
    """An engine record with a short manifest."""
    manifest = {
        "hash": "a" * 64, "device": "Xeon", "provider": "CPUExecutionProvider", "build_s": 0.4,
        "hashes": {"model": "b" * 64, "plan": "c" * 64, "files": {"model.onnx": "d" * 64}},
        "versions": {"runtime": "1.31.0", "driver": None},
        "got": {"nodes": {precision: 40, "fp32": 6}, "fp32_kept": ["/norm/Pow"], "problems": []},
        "lowering": {"kept": {"/norm/Pow": "plan"}},
    }  # fmt: skip
    data = {"engine_bytes": 400_000, "build_s": 0.4, "hit": False, "manifest": manifest}
    known = {"verdict": "pass", "backend": "onnxruntime"} | fields
    return Record("engine", model, precision, data=data, **known)


def compared(name: str = "logits", mre: Any = 2e-4) -> dict[str, Any]:
    """One output of an outputs record's comparison."""
    metrics = {
        "mre": mre, "snr_db": 61.2, "p99": 2e-3,
        "worst": {"index": [3, 7], "actual": 1.284, "expected": 1.253},
        "worst_row": {"axis": 0, "index": 3, "count": 8, "mre": 4e-4},
    }  # fmt: skip
    return {
        "name": name,
        "allowed": {"mre": 5e-3},
        "explained_mre": 2e-3,
        "metrics": metrics,
        "equality": None,
    }


def histogram(tensor: str, seed: int = 0) -> dict[str, Any]:
    """Values and errors of one tensor."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, 20_000)
    edges = np.linspace(-4, 4, 65)
    expected, actual = (np.histogram(v, edges)[0].tolist() for v in (x, x * 1.02))
    errors, error_edges = np.histogram(np.log10(np.abs(rng.normal(0, 1e-3, 20_000)) + 1e-9), 40)
    return {
        "tensor": tensor, "node": f"/{tensor}", "op_type": "MatMul",
        "values": {"edges": edges.tolist(), "expected": expected, "actual": actual},
        "errors": {"edges": error_edges.tolist(), "counts": errors.tolist()},
    }  # fmt: skip


def layers_record(
    model: str = "mnist", precision: str = "fp16", count: int = 60, seed: int = 0, **fields: Any
) -> Record:
    """A layers record whose error grows along the graph, with one creator and one tensor of NaN."""
    rng = np.random.default_rng(seed)
    errors = np.cumsum(np.abs(rng.normal(0, 2e-5, count))) + 1e-5
    errors[count // 2 :] *= 8
    rows = [_layer(i, errors, rng) for i in range(count)]
    creators = [rows[count // 2]["tensor"]]
    data = {
        "mre": float(errors[-1]), "limit": 5e-3, "expected": 1e-3, "instrumentation": "added outputs",
        "observer_effect": 1e-6, "first_over": None, "first_non_finite": None, "creators": creators,
        "layers": rows, "histograms": [histogram(creators[0], seed)],
    }  # fmt: skip
    known = {"profile": "default", "verdict": "pass", "backend": "onnxruntime"} | fields
    return Record("layers", model, precision, data=data, **known)


def _layer(i: int, errors: Any, rng: np.random.Generator) -> dict[str, Any]:
    error = float(errors[i])
    into = float(errors[i - 1]) if i else 0.0
    op = ("Conv", "Relu", "MatMul", "Add", "LayerNormalization")[i % 5]
    return {
        "tensor": f"/encoder/layer.{i // 5}/{op}_output_0", "node": f"/encoder/layer.{i // 5}/{op}",
        "op_type": op, "shape": [8, 128, 768], "dtype": "float32", "error": error, "error_in": into,
        "amplification": error / max(into, 2**-11), "created": max(0.0, error - into), "over": error > 5e-3,
        "finite": True, "problems": [], "mre": error, "rel_l2": error, "snr_db": 60.0, "p99": 5 * error,
        "p999": 9 * error, "max": 20 * error, "violations": 0.0, "largest": float(rng.uniform(1, 900)),
        "subnormal": 0.001,
    }  # fmt: skip


def search_record(model: str = "mnist", precision: str = "fp16", **fields: Any) -> Record:
    """A finished FP32 search."""
    curve = [[0, 2.0], [1, 0.9], [2, 3e-6], [4, 2e-6], [8, 1e-6]]
    data = {"nodes": ["/norm/Pow", "/norm/ReduceMean"], "curve": curve, "tolerance": 5e-3, "evaluations": 11}
    known = {"verdict": "pass", "backend": "onnxruntime"} | fields
    return Record("search", model, precision, data=data, **known)


def loop_record(model: str = "mnist", precision: str = "fp16", **fields: Any) -> Record:
    """A loop of 20 steps, one token of which is a tie and one wrong."""
    flips = [
        {"sequence": 0, "step": step, "row": 0, "got": 7, "expected": step, "margin": 0.1, "tie": tie}
        for step, tie in ((5, True), (12, False))
    ]
    expected = list(range(1, 21))
    got = [7 if step in (5, 12) else step for step in expected]
    tokens = {"compared": 20, "ties": 1, "wrong": 1, "first_wrong": 12, "flips": flips}
    data = {
        "steps": 20,
        "limit": 5e-3,
        "forced": [1e-4] * 20,
        "free": [1e-4 * step for step in expected],
        "first_over": {"forced": None, "free": {"step": 19, "sequence": 0, "output": "state", "mre": 6e-3}},
        "growth": {"kind": "linear", "per_step": 1e-4},
        "tokens": {**tokens, "got": [got], "expected": [expected]},
    }
    known = {"verdict": "pass", "backend": "onnxruntime"} | fields
    return Record("loop", model, precision, data=data, **known)


PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8+fp16")
FAILURE = (
    "classifier[fp16] output 'logits': mre 3.1e-02 > 5.0e-03\n"
    "  worst at (3, 17): got 1.284, expected 1.253, local error 2.4e-02\n"
    "  allowed at fp16: mre 5.0e-03 (usual 1.0e-03)\n  reproduce: pytest ..."
)


def model_records(model: str, precisions: Sequence[str] = PRECISIONS, layers: int = 60) -> list[Record]:
    """Every kind of record for one model."""
    found: list[Record] = []
    for k, precision in enumerate(precisions):
        comparison = {"outputs": [compared(), compared("boxes", 3e-4)]}
        found += [
            engine_record(model, precision),
            outputs_record(model, precision, mre=10.0 ** (k - 7), data={"comparison": comparison}),
            layers_record(model, precision, layers, seed=k),
            loop_record(model, precision),
        ]
        found += [
            latency_record(model, precision, p50_s=1e-3 * b**0.8 * (1 + k / 9), batch=b, shapes={"x": [b, 9]},
                           data={"batch": b, "p90_s": 1.1e-3 * b, "p99_s": 1.5e-3 * b, "mad_s": 1e-5,
                                 "throughput_per_s": 1e3})
            for b in (1, 4, 16)
        ]  # fmt: skip
    return found


def example(model: str = "classifier") -> Results:
    """A run with every kind of record, failures, hostile names, and a case of each verdict."""
    records = model_records(model)
    failed = {
        "message": FAILURE,
        "reproduce": "pytest 'suites/test_outputs.py::test_outputs[classifier-fp16]'",
    }
    records += [
        search_record(model),
        outputs_record(model, "fp16", mre=3.1e-2, verdict="precision-limited", profile="large", **failed),
        outputs_record("detector", "fp16", mre=0.4, verdict="engine-suspect", **failed),
        outputs_record("detector", "int8", mre="nan", verdict="error", message="RunError: out of memory"),
        latency_record("detector", "bf16", verdict="unverified", warnings=("too few samples: 9",)),
        outputs_record("</script><script>alert(1)</script>", "fp16"),
        outputs_record("<img src=x onerror=alert(2)>", "int8", verdict="skipped", message="no <b>GPU</b>"),
        outputs_record("long" * 2500, "fp32"),
        outputs_record("line\nbreak \"quoted\" & 'so'", "fp32"),
    ]
    return run(*records, name="nightly-42", not_fetched=("ppocrv4_det",))


def big(models: int = 200, layers: int = 20) -> Results:
    """A run of `models` with five precisions each, and `layers` tensors in each."""
    records = [r for i in range(models) for r in model_records(f"model_{i:03d}", layers=layers)]
    return run(*records, name="big")
