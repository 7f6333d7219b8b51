"""Runs against a baseline: accuracy for every case in both, latency where the machine is the same.

1. Cases are matched by model, precision, backend, kind, profile and shapes.
2. Latency is compared by `regression.latency`.
3. `mre` is worse when it grew by more than `MRE_GROWTH` of the baseline's and by more than `MRE_STEP` of
   what is expected at the precision: engines are built anew, and tactics change the last digits.
4. The task metric is worse when the drop against the reference grew by more than `TASK_STEP`.
5. A verdict that left `pass` is a regression, whatever the figures; so is a test that breaks before it tells
   of its shapes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from harness.precision import TOLERANCES, Precision
from harness.records import Record, severity, worst
from harness.report.gate import DEFAULT_GATE, Gate
from harness.report.keys import CaseKey, by_case, largest, number
from harness.report.regression.difference import Difference, Status
from harness.report.regression.latency import latency_differences

JUDGED = ("outputs", "accuracy", "latency", "engine", "metamorphic")
MRE_GROWTH, MRE_STEP, TASK_STEP = 0.25, 0.10, 0.005


def diff(base: Iterable[Record], new: Iterable[Record], gate: Gate = DEFAULT_GATE) -> list[Difference]:
    """Every difference and agreement of the cases of two (sets of) runs, sorted by case."""
    old_cases, new_cases = by_case(_judged(base)), by_case(_judged(new))
    gone = _gone(old_cases, new_cases)
    found: list[Difference] = []
    for key in sorted(old_cases.keys() | new_cases.keys()):
        if key not in new_cases:
            found.append(Difference(key, "verdict", "gone", "is in the baseline alone"))
        elif key not in old_cases:
            found += _new(key, gone.get(key, ()), new_cases[key])
        else:
            found += _case(key, old_cases[key], new_cases[key], gate)
    return found


def _new(key: CaseKey, old: Sequence[Record], new: Sequence[Record]) -> list[Difference]:
    """A case without a baseline; a test that broke before it told of shapes is held against what is gone."""
    if any(record.data for record in new):
        return [Difference(key, "verdict", "new", "is not in the baseline")]
    return [_verdict(key, old, new)] if old else []


def _gone(old: Mapping[CaseKey, Sequence[Record]], new: Collection[CaseKey]) -> dict[CaseKey, list[Record]]:
    """What the baseline alone has, by the key of a test that broke: without profile and shapes."""
    found: dict[CaseKey, list[Record]] = {}
    for key in old.keys() - set(new):
        found.setdefault(replace(key, profile="", shapes="{}"), []).extend(old[key])
    return found


def _judged(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.kind in JUDGED and record.verdict != "skipped"]


def _case(key: CaseKey, old: Sequence[Record], new: Sequence[Record], gate: Gate) -> list[Difference]:
    found = [_verdict(key, old, new)]
    if key.kind == "outputs":
        found += _figure(key, "mre", old, new)
    if key.kind == "accuracy":
        found += _figure(key, "drop", old, new)
    return found + (latency_differences(key, old, new, gate) if key.kind == "latency" else [])


def _verdict(key: CaseKey, old: Sequence[Record], new: Sequence[Record]) -> Difference:
    before, after = worst(r.verdict for r in old), worst(r.verdict for r in new)
    if key.kind == "latency" and "unverified" in (before, after):
        return Difference(key, "verdict", "same", f"{before} -> {after}")
    status: Status = "same"
    if severity(after) != severity(before):
        worse = severity(after) > severity(before) and not all(r.allowed for r in new if r.verdict == after)
        status = "regression" if worse else "improvement" if severity(after) < severity(before) else "same"
    return Difference(key, "verdict", status, f"{before} -> {after}" if before != after else after)


def _figure(key: CaseKey, figure: str, old: Sequence[Record], new: Sequence[Record]) -> list[Difference]:
    """The worst number of several baseline runs is what the newest must not exceed; NaN is no number."""
    before = [n for n in (number(record.data.get(figure)) for record in old) if n is not None]
    value = largest(record.data.get(figure) for record in new)
    if not before or value is None:
        return []
    bounds = [n for n in before if math.isfinite(n)] or before
    high, low = max(bounds), min(bounds)
    allowed, gained = (_mre_bounds if figure == "mre" else _drop_bounds)(key, high, low)
    status: Status = "same"
    # NaN compares with nothing: a figure that is not a number is worse than every number.
    if (value != value and high == high) or value > allowed:
        status = "regression"
    elif value < gained:
        status = "improvement"
    text = f"{high:.3g} -> {value:.3g} (up to {allowed:.3g} is the same)"
    return [Difference(key, figure, status, text, {"base": high, "new": value, "allowed": allowed})]


def _mre_bounds(key: CaseKey, high: float, low: float) -> tuple[float, float]:
    known = key.precision in set(Precision)
    step = MRE_STEP * TOLERANCES[Precision(key.precision)].expected if known else 0.0
    return max(high * (1 + MRE_GROWTH), high + step), min(low / (1 + MRE_GROWTH), low - step)


def _drop_bounds(_key: CaseKey, high: float, low: float) -> tuple[float, float]:
    return high + TASK_STEP, low - TASK_STEP
