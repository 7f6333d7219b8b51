"""What a lower precision should not be: slower, bigger or more accurate than FP32 of the same model.

None of it is a failure, all of it is worth knowing: slower means that the hardware has no kernels for it,
more accurate that it was quietly not applied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.errors import UsageError
from harness.latency.samples import milliseconds
from harness.precision import Precision
from harness.records import Record, worst
from harness.report.gate import compare
from harness.report.keys import case_key, latency_of, number

LOWER = frozenset(Precision) - {Precision.FP32, Precision.TF32}


def review(records: Sequence[Record]) -> tuple[Record, ...]:
    """The records of a run, each seen beside the others.

    Those of lower precisions get a warning for each thing that FP32 does better; latencies get the verdict
    of the outputs test on the same engine, and are unverified where that failed.
    """
    known = {_slot(record): record for record in records if record.precision == Precision.FP32}
    judged = _outputs_verdicts(records)
    reviewed = [_reviewed(record, known.get(_slot(record))) for record in records]
    return tuple(_verified(record, judged) for record in reviewed)


def _outputs_verdicts(records: Iterable[Record]) -> dict[str, str]:
    """By manifest, the worst verdict of the outputs test."""
    found: dict[str, list[str]] = {}
    for record in records:
        if record.kind == "outputs" and record.manifest:
            found.setdefault(record.manifest, []).append(record.verdict)
    return {manifest: worst(verdicts) for manifest, verdicts in found.items()}


def _verified(record: Record, judged: Mapping[str, str]) -> Record:
    if record.kind != "latency" or not isinstance(record.data.get("outputs"), Mapping):
        return record
    verdict = judged.get(record.manifest or "", "not run")
    data = {**record.data, "outputs": {**record.data["outputs"], "verdict": verdict}}
    failed = record.verdict == "pass" and verdict not in ("pass", "not run")
    return replace(record, data=data, verdict="unverified" if failed else record.verdict)


def _reviewed(record: Record, fp32: Record | None) -> Record:
    if fp32 is None or record.precision not in LOWER:
        return record
    found = [text for text in _odd(record, fp32) if text not in record.warnings]
    return replace(record, warnings=(*record.warnings, *found)) if found else record


def _slot(record: Record) -> tuple[str, ...]:
    key = case_key(record)
    return key.model, key.backend, key.kind, key.profile, key.shapes, record.run


def _odd(record: Record, fp32: Record) -> Iterable[str]:
    if record.kind == "latency":
        yield from _slower(record, fp32)
    if record.kind == "engine":
        yield from _bigger(record, fp32)
    if record.kind == "outputs":
        yield from _more_accurate(record, fp32)


def _slower(record: Record, fp32: Record) -> Iterable[str]:
    try:
        base, own = latency_of(fp32).round_medians_s, latency_of(record).round_medians_s
    except UsageError:
        return
    change = compare([base], [own])
    if change.finding == "slower":
        yield f"slower than fp32: {milliseconds(change.new_s)} against {milliseconds(change.base_s)}"


def _bigger(record: Record, fp32: Record) -> Iterable[str]:
    own, base = (number(one.data.get("engine_bytes")) for one in (record, fp32))
    if own is not None and base is not None and own > base:
        yield f"bigger than fp32: {own:,.0f} against {base:,.0f} bytes"


def _more_accurate(record: Record, fp32: Record) -> Iterable[str]:
    own, base = (number(one.data.get("mre")) for one in (record, fp32))
    if own is not None and base is not None and own < base:
        yield f"more accurate than fp32: mre {own:.1e} against {base:.1e}; was the precision applied?"


def doubtful(records: Iterable[Record]) -> list[str]:
    """A line on how many latencies are in doubt and why, the most frequent reason first; none if none is."""
    hosts = [record.data.get("host") for record in records if record.kind == "latency"]
    doubts = [host["doubts"] for host in hosts if isinstance(host, Mapping) and host.get("doubts")]
    if not doubts:
        return []
    kinds = Counter(doubt.partition(":")[0] for found in doubts for doubt in found)
    said = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    measured = sum(isinstance(host, Mapping) for host in hosts)
    return [f"latencies in doubt: {len(doubts)} of {measured} ({said})"]


def not_kept(records: Iterable[Record]) -> list[str]:
    """A line for each reason for which engines were built and not kept in the cache."""
    reasons = (str(record.data.get("reason", "")) for record in records if record.kind == "engine")
    told = dict.fromkeys(reason for reason in reasons if reason.startswith("not kept: "))
    return [f"engines are {reason.replace(':', ' in the cache:', 1)}" for reason in told]
