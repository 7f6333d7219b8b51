"""The data of report.html: records by model, in tables of rows so that thousands of them stay small."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.records import VERDICTS, Record, severity, worst
from harness.report.keys import largest, number
from harness.report.overview import caveats, distinct, worst_by_kind

DIGITS = 5
LAYER_COLUMNS = (
    "tensor", "node", "op_type", "shape", "dtype", "error", "error_in", "created", "amplification", "snr_db",
    "p99", "max", "largest", "subnormal", "over", "finite",
)  # fmt: skip
OUTPUT_COLUMNS = (
    "case", "verdict", "profile", "shape", "sizes", "output", "mre", "limit", "explained", "snr_db", "p99",
    "worst_at", "got", "expected", "row",
)  # fmt: skip
LATENCY_COLUMNS = (
    "case", "verdict", "profile", "batch", "p50_s", "p90_s", "p99_s", "mad_s", "throughput_per_s",
    "device_p50_s", "resident_p50_s", "memory", "samples", "doubts",
)  # fmt: skip
FIGURES = (
    "p50_s", "p90_s", "p99_s", "mad_s", "throughput_per_s", "device_p50_s", "resident_p50_s",
)  # fmt: skip
Row = list[Any]


def models(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One object for each model, in the order in which they first appear."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.model, []).append(record)
    return [_model(name, group) for name, group in groups.items()]


def _model(name: str, group: Sequence[Record]) -> dict[str, Any]:
    cases: dict[tuple[str, str, str], list[Record]] = {}
    for record in group:
        cases.setdefault((record.precision, record.backend, record.run), []).append(record)
    named = {i: cases[key] for i, key in enumerate(cases)}
    return {
        "name": name,
        "verdict": worst(record.verdict for record in group),
        "cases": [_case(*key, found) for key, found in cases.items()],
        "failures": [_failure(i, r) for i, found in named.items() for r in found if r.fails],
        "outputs": [row for i, found in named.items() for r in found for row in _outputs(i, r)],
        "latency": [_latency(i, r) for i, found in named.items() for r in found if _measured(r)],
        "layers": [_layers(i, r) for i, found in named.items() for r in found if _list(r.data.get("layers"))],
        "searches": [_search(i, r) for i, found in named.items() for r in found if r.kind == "search"],
        "loops": [_loop(i, r) for i, found in named.items() for r in found if _list(r.data.get("forced"))],
        "histograms": [h for i, found in named.items() for r in found for h in _histograms(i, r)],
    }


def _case(precision: str, backend: str, run: str, found: Sequence[Record]) -> dict[str, Any]:
    engine = next((record.data for record in found if record.kind == "engine"), {})
    manifest = _mapping(engine.get("manifest"))
    got = _mapping(manifest.get("got"))
    return {
        "precision": precision,
        "backend": backend,
        "run": run,
        "verdict": worst(record.verdict for record in found),
        "kinds": worst_by_kind(found),
        "mre": _largest(found, "outputs", "mre"),
        "limit": _largest(found, "outputs", "limit"),
        "drop": _largest(found, "accuracy", "drop"),
        "p50_s": _largest(found, "latency", "p50_s"),
        "engine_bytes": engine.get("engine_bytes"),
        "build_s": manifest.get("build_s", engine.get("build_s")),
        "nodes": dict(_mapping(got.get("nodes"))),
        "kept": _kept(got.get("fp32_kept"), _mapping(_mapping(manifest.get("lowering")).get("kept"))),
        "advice": next((r.data["advice"] for r in found if r.data.get("advice")), ""),
        "caveats": caveats(found),
        "warnings": distinct(w for record in found for w in record.warnings),
        "skipped": list(dict.fromkeys(r.message for r in found if r.verdict == "skipped" and r.message)),
        "hashes": {"manifest": manifest.get("hash"), **_flat(_mapping(manifest.get("hashes")))},
        "versions": dict(_mapping(manifest.get("versions"))),
        "device": manifest.get("device", engine.get("device")),
        "provider": manifest.get("provider"),
    }


def _failure(case: int, record: Record) -> dict[str, Any]:
    return {
        "case": case,
        "kind": record.kind,
        "verdict": record.verdict,
        "profile": record.profile or "",
        "message": record.message,
        "reproduce": record.reproduce,
    }


def _outputs(case: int, record: Record) -> list[Row]:
    if record.kind != "outputs":
        return []
    compared = _list(_mapping(record.data.get("comparison")).get("outputs")) or [{}]
    sizes = ", ".join(
        f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in record.shapes.items()
    )
    head = [case, record.verdict, record.profile or "", record.data.get("shape", ""), sizes]
    return [[*head, *_output(record, _mapping(one))] for one in compared]


def _output(record: Record, one: Mapping[str, Any]) -> Row:
    metrics, equality = _mapping(one.get("metrics")), _mapping(one.get("equality"))
    element, row = _mapping(metrics.get("worst")), _mapping(metrics.get("worst_row"))
    return [
        one.get("name", ""),
        short(metrics.get("mre", equality.get("fraction", record.data.get("mre")))),
        short(_mapping(one.get("allowed")).get("mre", record.data.get("limit"))),
        short(one.get("explained_mre")),
        short(metrics.get("snr_db")),
        short(metrics.get("p99")),
        str(tuple(_list(element["index"]))) if "index" in element else "",
        short(element.get("actual", equality.get("actual"))),
        short(element.get("expected", equality.get("expected"))),
        f"[{row['index']}] of {row.get('count')}: {short(row.get('mre'))}" if "index" in row else "",
    ]


def _latency(case: int, record: Record) -> Row:
    data, host = record.data, _mapping(record.data.get("host"))
    samples = host.get("samples_s")
    count = len(samples) if isinstance(samples, Sequence) else 0
    figures = [short(data.get(name)) for name in FIGURES]
    doubts = [*_list(host.get("doubts")), *record.warnings]
    memory = [n for n in map(number, _mapping(data.get("memory_bytes")).values()) if n is not None]
    head = [case, record.verdict, record.profile or "", data.get("batch", 1)]
    return [*head, *figures, max(memory, default=None), count, doubts]


def _layers(case: int, record: Record) -> dict[str, Any]:
    data = record.data
    creators = set(map(str, _list(data.get("creators"))))
    rows = [layer for layer in data["layers"] if isinstance(layer, Mapping)]
    return {
        "case": case,
        "limit": data.get("limit"),
        "instrumentation": data.get("instrumentation", ""),
        "observer_effect": data.get("observer_effect"),
        "first_over": data.get("first_over"),
        "first_non_finite": data.get("first_non_finite"),
        "creators": [i for i, row in enumerate(rows) if str(row.get("tensor")) in creators],
        "rows": [[_cell(row.get(name)) for name in LAYER_COLUMNS] for row in rows],
    }


def _search(case: int, record: Record) -> dict[str, Any]:
    points = [_point(point) for point in _list(record.data.get("curve"))]
    told = {"case": case, "verdict": record.verdict, "message": record.message}
    return {**told, **_short_all(record.data), "curve": [point for point in points if point]}


def _loop(case: int, record: Record) -> dict[str, Any]:
    """Errors by step of both modes, and tokens of both sides by sequence, with what differs."""
    data, tokens = record.data, _mapping(record.data.get("tokens"))
    flips = [flip for flip in _list(tokens.get("flips")) if isinstance(flip, Mapping)]
    return {
        "case": case,
        "limit": data.get("limit"),
        "growth": _short_all(_mapping(data.get("growth"))),
        "first_over": _short_all(_mapping(data.get("first_over"))),
        "first_non_finite": data.get("first_non_finite"),
        **{mode: [short(error) for error in _list(data.get(mode))] for mode in ("forced", "free")},
        "tokens": {
            **{key: tokens.get(key) for key in ("compared", "ties", "wrong", "first_wrong")},
            **{side: [list(_list(one)) for one in _list(tokens.get(side))] for side in ("got", "expected")},
            "flips": [_short_all(flip) for flip in flips],
        },
    }


def _point(point: Any) -> list[Any] | None:
    """Nodes kept and the error that remains, from a pair or an object."""
    pair = [point.get("kept"), point.get("mre")] if isinstance(point, Mapping) else _list(point)
    return [pair[0], short(pair[1])] if len(pair) == 2 else None


def _histograms(case: int, record: Record) -> list[dict[str, Any]]:
    found = _list(record.data.get("histograms"))
    where = {
        "case": case,
        "kind": record.kind,
        "profile": record.profile or "",
        "shape": record.data.get("shape", ""),
    }
    return [{**where, **_short_all(one)} for one in found if isinstance(one, Mapping)]


def short(value: Any) -> Any:
    """A float with `DIGITS` significant digits; anything else as it is."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) and abs(value) < float("inf") else value


def _short_all(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _short_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short_all(item) for item in value]
    return short(value)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return "x".join(map(str, value)) if isinstance(value, list) else short(value)


def _largest(found: Iterable[Record], kind: str, key: str) -> Any:
    return short(largest(r.data.get(key) for r in found if r.kind == kind))


def _measured(record: Record) -> bool:
    return record.kind == "latency" and number(record.data.get("p50_s")) is not None


def _kept(plan: Any, lowering: Mapping[str, Any]) -> list[list[str]]:
    """Nodes that stayed FP32, each with its reason."""
    return [[str(name), str(lowering.get(str(name), "plan"))] for name in _list(plan) or lowering]


def _flat(hashes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in hashes.items() if not isinstance(value, Mapping)}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def counts(records: Iterable[Record]) -> dict[str, int]:
    """How many cases (model, precision, backend, run) have each verdict as their worst, the worst first."""
    cases: dict[tuple[str, str, str, str], list[str]] = {}
    for r in records:
        cases.setdefault((r.model, r.precision, r.backend, r.run), []).append(r.verdict)
    found = [worst(verdicts) for verdicts in cases.values()]
    return {
        verdict: found.count(verdict)
        for verdict in sorted(VERDICTS, key=severity, reverse=True)
        if verdict in found
    }
