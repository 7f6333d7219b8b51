"""trend.html: each case over many runs, with the changes of its environment marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.records import Record, severity
from harness.report.keys import CaseKey, case_key, latency_of, machine, number
from harness.report.merge import apart
from harness.report.pages.html import GLYPHS, render
from harness.report.pages.payload import short
from harness.report.results import Results

FIGURES: Mapping[str, tuple[str, ...]] = {
    "outputs": ("mre",),
    "accuracy": ("drop",),
    "latency": ("p50_s", "p90_s", "p99_s"),
}
WATCHED = ("backend", "provider", "processor", "platform", "python", "harness")


def page(runs: Sequence[Results]) -> str:
    """The page over `runs`, each once, oldest first; merged runs are taken apart."""
    parts = apart(runs)
    data = {
        "runs": [{"run": run.run, "started": run.started} for run in parts],
        "changes": changes(parts),
        "cases": cases(parts),
        "glyphs": GLYPHS,
    }
    return render("trend.html", data, runs=parts, cases=data["cases"], changes=data["changes"])


def changes(runs: Sequence[Results]) -> list[dict[str, Any]]:
    """`at` (number of the run) and `texts` wherever the environment differs from the run before."""
    seen = [facts(run) for run in runs]
    found = []
    for at in range(1, len(seen)):
        texts = _differences(seen[at - 1], seen[at])
        if texts:
            found.append({"at": at, "run": runs[at].run, "texts": texts})
    return found


def facts(run: Results) -> dict[str, str]:
    """What a run depended on besides models: machine, versions of packages, runtime, driver and GPU."""
    told = {key: str(run.environment[key]) for key in WATCHED if run.environment.get(key)}
    packages = run.environment.get("packages")
    told |= {k: str(v) for k, v in packages.items()} if isinstance(packages, Mapping) else {}
    for record in run.records:
        told |= {f"latency {key}": value for key, value in machine(record).items()}
        told |= _versions(record)
    return told


def cases(runs: Sequence[Results]) -> list[dict[str, Any]]:
    """One object for each case that has a figure: its verdict and figures in each run, None where absent."""
    found: dict[CaseKey, dict[int, Record]] = {}
    for at, run in enumerate(runs):
        for record in run.records:
            if record.kind in FIGURES and record.verdict != "skipped":
                found.setdefault(case_key(record), {})[at] = record
    drawn = [_case(key, found[key], len(runs)) for key in sorted(found)]
    return [case for case in drawn if any(v is not None for f in case["figures"].values() for v in f)]


def _case(key: CaseKey, records: Mapping[int, Record], count: int) -> dict[str, Any]:
    figures = FIGURES[key.kind]
    last = records[max(records)]
    return {
        "model": key.model,
        "precision": key.precision,
        "backend": key.backend,
        "kind": key.kind,
        "where": " ".join(part for part in (key.profile, key.shapes.replace("{}", "")) if part),
        "verdicts": [records[i].verdict if i in records else None for i in range(count)],
        "figures": {name: [_figure(records.get(i), name) for i in range(count)] for name in figures},
        "spread": [_spread(records.get(i)) for i in range(count)] if key.kind == "latency" else [],
        "limit": short(last.data.get("limit", last.data.get("allowed_drop"))),
        "severity": severity(last.verdict),
        "change": _change([_figure(record, figures[0]) for record in _comparable(records)]),
    }


def _figure(record: Record | None, name: str) -> Any:
    value = number(record.data.get(name)) if record else None
    return short(value)


def _comparable(records: Mapping[int, Record]) -> list[Record]:
    """Records of the machine that the last was measured on, in order; of any where machines do not matter."""
    last = machine(records[max(records)])
    return [records[i] for i in sorted(records) if machine(records[i]) == last]


def _spread(record: Record | None) -> list[Any] | None:
    """The fastest and slowest round of a latency."""
    if record is None or "host" not in record.data:
        return None
    try:
        medians = latency_of(record).round_medians_s
    except UsageError:
        return None
    return [short(min(medians)), short(max(medians))]


def _change(values: Iterable[Any]) -> float | None:
    """The newest figure against the median of those before, as a fraction; None where there is no telling."""
    *before, newest = [value for value in values if value is not None] or [None]
    known = [value for value in before if math.isfinite(value)]
    middle = float(np.median(known)) if known else 0.0
    return short(newest / middle - 1) if middle > 0 and math.isfinite(newest) else None


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    keys = [key for key in new if key in old and old[key] != new[key]]
    return [f"{key}: {old[key]} -> {new[key]}" for key in keys]


def _versions(record: Record) -> dict[str, str]:
    manifest = record.data.get("manifest") if record.kind == "engine" else None
    versions = manifest.get("versions") if isinstance(manifest, Mapping) else None
    if not isinstance(versions, Mapping):
        return {}
    return {f"engine {key}": str(value) for key, value in versions.items() if value}
