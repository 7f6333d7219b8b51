"""Latencies against a baseline's: every figure with its own noise, creep over the nights, and the anchor.

1. Compared are records of one machine: where provider, device, driver, runtime version, threads, CUDA graph,
   processor and memory agree (`keys.MACHINE_KEYS`); else the case is `not comparable`, with the keys that
   differ.  Each machine of the new runs is compared by itself.
2. Median, mean, 90th and 99th percentile are gated, each with its own noise; Holm's correction keeps their
   number from raising alarms.  What moved is named: a tail or a second speed moves without the median.
3. A single run of a baseline says nothing of the run-to-run CoV: what it finds is `undecided`, a warning,
   unless the runs were interleaved or the gate is strict.
4. The runs of the baseline and the new one, oldest first, must not creep (`creep`).
5. A run that was pinned (`trt-harness baseline pin`) is the anchor: the new run must not be slower than it
   either, by the noise that the other runs show.  It does not move as the nights go by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.errors import UsageError
from harness.latency.samples import Latency
from harness.records import Record
from harness.report.gate import Change, Gate, compare, holm, noise_of
from harness.report.history import is_anchor
from harness.report.keys import CaseKey, differences, latencies_of, latency_of, machine
from harness.report.regression.creep import creeping
from harness.report.regression.difference import Difference, Status
from harness.report.regression.figures import BLOCKS, FIGURES

ONE_RUN = "; one run of a baseline cannot tell: more runs do, or --trt-interleave, or --trt-gate strict"
Sides = tuple[list[Latency], list[Latency]]


def latency_differences(
    key: CaseKey, old: Sequence[Record], new: Sequence[Record], gate: Gate
) -> list[Difference]:
    """The differences of the figures of one case, for each machine that the new runs were measured on."""
    old, new = ([record for record in side if "host" in record.data] for side in (old, new))
    machines: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in new:
        machines.setdefault(tuple(machine(record).items()), []).append(record)
    if not old:
        return []
    found = {on: _on_one(key, old, fresh, gate) for on, fresh in machines.items()}
    if len(found) == 1:
        return next(iter(found.values()))
    return [_placed(one, on) for on, every in found.items() for one in every]


def _placed(difference: Difference, on: Iterable[tuple[str, str]]) -> Difference:
    """The difference with the machine that it was measured on."""
    return replace(difference, text=f"{difference.text}, on {' '.join(value for _, value in on)}")


def _on_one(key: CaseKey, old: Sequence[Record], new: Sequence[Record], gate: Gate) -> list[Difference]:
    """The differences of records of one machine."""
    after = machine(new[-1])
    alike = [record for record in old if not differences(machine(record), after)]
    if not alike or not after:
        reasons = differences(machine(old[-1]), after) or ["the machine is not recorded"]
        return [Difference(key, "p50_s", "not comparable", "not comparable: " + "; ".join(reasons))]
    try:
        return list(_compared(key, alike, new, gate))
    except UsageError as error:
        return [Difference(key, "p50_s", "not comparable", f"not comparable: {error}")]


def _compared(key: CaseKey, old: Sequence[Record], new: Sequence[Record], gate: Gate) -> Iterator[Difference]:
    nights = [record for record in old if not is_anchor(record)]
    pairs = _interleaved(old, new[-1])
    if pairs or nights:
        sides = pairs or _sides(nights, new)
        lone = not pairs and len(nights) == 1 and not gate.strict
        yield from _figures(key, sides, gate, paired=bool(pairs), lone=lone)
    yield from _crept(key, nights, new, gate)
    yield from _anchored(key, [record for record in old if is_anchor(record)], nights, new, gate)


def _interleaved(old: Sequence[Record], new: Record) -> Sides | None:
    """The baseline's engine as it was measured in turn with the new one, and the new one."""
    beside = new.data.get("interleaved")
    if not isinstance(beside, Mapping) or beside.get("manifest") not in {record.manifest for record in old}:
        return None
    told = (beside.get("host", {}), *beside.get("repeats", ()))
    return [Latency.from_json(one) for one in told], latencies_of(new)


def _sides(old: Iterable[Record], new: Iterable[Record]) -> Sides:
    base, own = ([one for record in side for one in latencies_of(record)] for side in (old, new))
    return base, own


def changes_of(sides: Sides, gate: Gate, *, paired: bool = False) -> dict[str, Change]:
    """The change of every figure that both sides have enough samples for, Holm's correction made."""
    found: dict[str, Change] = {}
    for name, figure in FIGURES.items():
        base, own = ([figure.blocks(latency) for latency in side] for side in sides)
        if name == "p50_s" or min(map(len, (*base, *own))) >= BLOCKS:
            found[name] = compare(base, own, figure.gate(gate), paired=paired)
    return dict(zip(found, holm(list(found.values()), gate), strict=True))


def _figures(key: CaseKey, sides: Sides, gate: Gate, *, paired: bool, lone: bool) -> Iterator[Difference]:
    """The median always; another figure where it moved and the median did not move that way."""
    found = changes_of(sides, gate, paired=paired)
    told = {"p50_s"}
    for finding in ("slower", "faster"):
        moved = [name for name, change in found.items() if change.finding == finding]
        told |= set(moved[:1])
    for name in (name for name in found if name in told):
        change = found[name]
        status, text = _STATUS[change.finding], _text(change) + _also(name, found)
        if lone and status == "regression":
            status, text = "undecided", text + ONE_RUN
        yield Difference(key, name, status, text, change.to_json())


def _also(name: str, found: Mapping[str, Change]) -> str:
    """The other figures that moved the same way."""
    finding = found[name].finding
    if finding not in ("slower", "faster"):
        return ""
    others = [f"{n} {c.effect:+.1%}" for n, c in found.items() if n != name and c.finding == finding]
    return f"; also {', '.join(others)}" if others else ""


def _crept(key: CaseKey, nights: Sequence[Record], new: Sequence[Record], gate: Gate) -> Iterator[Difference]:
    levels = [float(np.median(latency_of(record).round_medians_s)) for record in (*nights, new[-1])]
    found = creeping(levels, gate)
    if found is not None:
        text = f"{levels[0] * 1e3:.4g} ms -> {levels[-1] * 1e3:.4g} ms: {found}"
        yield Difference(key, "p50_s", "regression", text, vars(found))


def _anchored(
    key: CaseKey, anchors: Sequence[Record], nights: Sequence[Record], new: Sequence[Record], gate: Gate
) -> Iterator[Difference]:
    """The new run against each anchor, in the noise that the nights show."""
    blocks = FIGURES["p50_s"].blocks
    for anchor in anchors:
        base, own = _sides([anchor], new)
        known = noise_of([blocks(latency_of(record)) for record in nights], gate)
        change = compare([blocks(one) for one in base], [blocks(one) for one in own], known)
        if change.finding == "slower":
            lone = len(nights) < 2 and not gate.strict
            status: Status = "undecided" if lone else "regression"
            yield Difference(key, "p50_s", status, f"{_text(change)}, against the anchor", change.to_json())


def _text(change: Change) -> str:
    return f"{change.base_s * 1e3:.4g} ms -> {change.new_s * 1e3:.4g} ms: {change.why}"


_STATUS: Mapping[str, Status] = {
    "same": "same",
    "slower": "regression",
    "faster": "improvement",
    "undecided": "undecided",
}
