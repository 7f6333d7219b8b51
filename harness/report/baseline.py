"""Runs against a baseline: accuracy for every case in both, latency where the machine is the same.

1. Cases are matched by model, precision, backend, kind, profile and shapes.
2. Latency is compared only where provider, device, driver, runtime version, threads and CUDA graph agree
   (`keys.MACHINE_KEYS`); else the case is `not comparable`, with the keys that differ.  Each machine of the
   new runs is compared by itself.
3. `mre` is worse when it grew by more than `MRE_GROWTH` of the baseline's and by more than `MRE_STEP` of
   what is expected at the precision: engines are built anew, and tactics change the last digits.
4. The task metric is worse when the drop against the reference grew by more than `TASK_STEP`.
5. A verdict that left `pass` is a regression, whatever the figures; so is a test that breaks before it tells
   of its shapes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from harness.errors import UsageError
from harness.latency.samples import Latency
from harness.precision import TOLERANCES, Precision
from harness.records import Record, severity, worst
from harness.report.gate import DEFAULT_GATE, Change, Gate, compare
from harness.report.keys import CaseKey, by_case, differences, largest, latencies_of, machine, number

Status = Literal[
    "regression", "improvement", "same", "undecided", "not comparable", "new", "gone", "renamed", "skipped",
    "allowed",
]  # fmt: skip
COMPARED: frozenset[Status] = frozenset({"regression", "improvement", "same", "undecided"})
"""What two sides that hold the same case give."""
MISSING: frozenset[Status] = frozenset({"gone", "renamed", "skipped"})
"""What the baseline has and the run has not; it fails the run unless it is meant (`missing`)."""
JUDGED = ("outputs", "accuracy", "latency", "engine", "metamorphic")
MRE_GROWTH, MRE_STEP, TASK_STEP = 0.25, 0.10, 0.005


@dataclass(frozen=True)
class Difference:
    """How one case changed; `figure` is what was compared: `verdict`, `mre`, `drop` or `p50_s`."""

    key: CaseKey
    figure: str
    status: Status
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The difference as JSON-ready data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.key}: {self.figure} {self.text}"


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
    return found + (_latency(key, old, new, gate) if key.kind == "latency" else [])


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


def _latency(key: CaseKey, old: Sequence[Record], new: Sequence[Record], gate: Gate) -> list[Difference]:
    """A difference for each machine that the new runs were measured on."""
    old, new = ([record for record in side if "host" in record.data] for side in (old, new))
    machines: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in new:
        machines.setdefault(tuple(machine(record).items()), []).append(record)
    if not old:
        return []
    found = [_latency_on(key, old, fresh, gate) for fresh in machines.values()]
    return found if len(found) == 1 else list(map(_placed, found, machines))


def _placed(difference: Difference, on: Iterable[tuple[str, str]]) -> Difference:
    """The difference with the machine that it was measured on."""
    return replace(difference, text=f"{difference.text}, on {' '.join(value for _, value in on)}")


def _latency_on(key: CaseKey, old: Sequence[Record], new: Sequence[Record], gate: Gate) -> Difference:
    """The difference of records of one machine."""
    after = machine(new[-1])
    alike = [record for record in old if not differences(machine(record), after)]
    if not alike or not after:
        reasons = differences(machine(old[-1]), after) or ["the machine is not recorded"]
        return Difference(key, "p50_s", "not comparable", "not comparable: " + "; ".join(reasons))
    try:
        change = latency_change(alike, new, gate)
    except UsageError as error:
        return Difference(key, "p50_s", "not comparable", f"not comparable: {error}")
    text = f"{change.base_s * 1e3:.4g} ms -> {change.new_s * 1e3:.4g} ms: {change.why}"
    return Difference(key, "p50_s", _STATUS[change.finding], text, change.to_json())


def latency_change(old: Sequence[Record], new: Sequence[Record], gate: Gate = DEFAULT_GATE) -> Change:
    """The change between latency records of one case and machine.

    Where the newest record holds the baseline's engine measured in turn with its own
    (`data["interleaved"]`), those two are compared pair by pair and nothing else.
    """
    beside = new[-1].data.get("interleaved")
    if isinstance(beside, Mapping) and beside.get("manifest") in {record.manifest for record in old}:
        told = (beside.get("host", {}), *beside.get("repeats", ()))
        base = [Latency.from_json(one).round_medians_s for one in told]
        own = [latency.round_medians_s for latency in latencies_of(new[-1])]
        return compare(base, own, gate, paired=True)
    runs = [latency.round_medians_s for record in new for latency in latencies_of(record)]
    base_runs = [latency.round_medians_s for record in old for latency in latencies_of(record)]
    return compare(base_runs, runs, gate)


_STATUS: Mapping[str, Status] = {
    "same": "same",
    "slower": "regression",
    "faster": "improvement",
    "undecided": "undecided",
}
