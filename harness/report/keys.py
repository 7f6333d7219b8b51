"""What makes two records the same case, and what makes two measurements comparable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError
from harness.latency.samples import Latency
from harness.records import Record

MACHINE_KEYS = (
    "provider", "device", "driver", "version", "threads", "cuda_graph", "copies", "processor", "memory",
)  # fmt: skip
"""What of a latency's `machine` must agree; model, precision, backend and shapes are the case's own."""
LATER_KEYS = frozenset({"processor", "memory"})
"""Those that older results do not have: where one side lacks them they say nothing."""


@dataclass(frozen=True, order=True)
class CaseKey:
    """What was checked, whatever it was checked on; `shapes` is canonical JSON."""

    model: str
    precision: str
    backend: str
    kind: str
    profile: str
    shapes: str

    def __str__(self) -> str:
        shapes = f" {self.shapes}" if self.shapes != "{}" else ""
        profile = f" {self.profile}" if self.profile else ""
        return f"{self.model}[{self.precision}] {self.kind} on {self.backend}{profile}{shapes}"


def case_key(record: Record) -> CaseKey:
    """The case that `record` is about."""
    shapes = json.dumps({name: list(shape) for name, shape in record.shapes.items()}, sort_keys=True)
    model, precision, backend = record.model, record.precision, record.backend
    return CaseKey(model, precision, backend, record.kind, record.profile or "", shapes)


def machine(record: Record) -> dict[str, str]:
    """What a latency was measured on, by the keys that must agree; empty where it is not recorded."""
    told = record.data.get("machine")
    told = told if isinstance(told, Mapping) else {}
    return {key: str(told[key]) for key in MACHINE_KEYS if key in told}


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """`key: old value -> new value` of every key in which two machines differ."""
    return [
        f"{key}: {old.get(key, 'not recorded')} -> {new.get(key, 'not recorded')}"
        for key in MACHINE_KEYS
        if old.get(key) != new.get(key) and not (key in LATER_KEYS and not (key in old and key in new))
    ]


def by_case(records: Iterable[Record]) -> dict[CaseKey, list[Record]]:
    """Records by case, in the order in which cases first appear."""
    found: dict[CaseKey, list[Record]] = {}
    for record in records:
        found.setdefault(case_key(record), []).append(record)
    return found


def latency_of(record: Record) -> Latency:
    """The host latency of a latency record.  Raises UsageError naming the case."""
    try:
        return Latency.from_json(record.data["host"])
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise UsageError(f"{case_key(record)}: no readable latency: {error}") from error


def latencies_of(record: Record) -> list[Latency]:
    """The host latency and those measured again in the same run (`data["repeats"]`), in order."""
    try:
        again = [Latency.from_json(data) for data in record.data.get("repeats", ())]
    except (TypeError, UsageError) as error:
        raise UsageError(f"{case_key(record)}: no readable latency: {error}") from error
    return [latency_of(record), *again]


def largest(values: Iterable[Any]) -> float | None:
    """The largest number among `values`, NaN above all of them; None without any."""
    numbers = [n for n in map(number, values) if n is not None]
    return next((n for n in numbers if n != n), max(numbers, default=None))


def number(value: Any) -> float | None:
    """`value` as a float (`nan` and `inf` may be text); None if it is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
