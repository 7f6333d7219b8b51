"""One row for each model and precision: the worst verdict and the figures to know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.precision import Precision
from harness.records import Record, worst
from harness.report.keys import largest, number

_FIGURE = re.compile(r"'[^']*'|(\d+\.\d+(?:e[+-]?\d+)?)")
"""A name in quotes, which is kept, or a figure."""


@dataclass(frozen=True)
class Row:
    """What is known of one model at one precision on one backend.

    `verdicts` is kind -> worst verdict.  `mre` is the largest of all outputs, `limit` its bound; `drop` is
    that of the task metric; `build_s` is None for an engine from the cache;
    `p50_s` is that of the first shape measured; `warnings` counts those of `distinct`.  `caveats`: what the
    verdict cannot see, and verdicts that were let through.
    """

    model: str
    precision: str
    backend: str
    verdict: str
    verdicts: Mapping[str, str] = field(default_factory=dict)
    mre: float | None = None
    limit: float | None = None
    drop: float | None = None
    build_s: float | None = None
    cached: bool = False
    p50_s: float | None = None
    warnings: int = 0
    caveats: tuple[str, ...] = ()


def overview(records: Iterable[Record]) -> tuple[Row, ...]:
    """The rows of a run: models in the order in which they first appear, precisions from FP32 down."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.model, record.precision, record.backend), []).append(record)
    places: dict[str, int] = {}
    for model, _, _ in groups:
        places.setdefault(model, len(places))
    keys = sorted(groups, key=lambda key: (places[key[0]], _place(key[1])))
    return tuple(_row(*key, groups[key]) for key in keys)


def _place(precision: str) -> int:
    known = [str(one) for one in Precision]
    return known.index(precision) if precision in known else len(known)


def _row(model: str, precision: str, backend: str, group: Sequence[Record]) -> Row:
    verdicts = worst_by_kind(group)
    outputs = [record.data for record in group if record.kind == "outputs"]
    engine: Mapping[str, Any] = next((record.data for record in group if record.kind == "engine"), {})
    return Row(
        model,
        precision,
        backend,
        _verdict(verdicts),
        verdicts,
        mre=_largest(outputs, "mre"),
        limit=_largest(outputs, "limit"),
        drop=_largest([r.data for r in group if r.kind == "accuracy"], "drop"),
        build_s=number(engine.get("build_s")),
        cached=bool(engine.get("hit", False)),
        p50_s=next((number(r.data.get("p50_s")) for r in group if r.kind == "latency"), None),
        warnings=len(distinct(warning for record in group for warning in record.warnings)),
        caveats=tuple(caveats(group)),
    )


def worst_by_kind(records: Iterable[Record]) -> dict[str, str]:
    """The worst verdict of each kind of record, in the order in which they first appear."""
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(str(record.kind), []).append(record.verdict)
    return {kind: worst(verdicts) for kind, verdicts in found.items()}


def caveats(records: Iterable[Record]) -> list[str]:
    """What the verdicts of a case cannot see, each once, and those that the user lets through."""
    every = list(records)
    through = dict.fromkeys(f"{r.verdict} is allowed" for r in every if r.allowed)
    return [*through, *distinct(text for record in every for text in record.caveats)]


def distinct(warnings: Iterable[str]) -> list[str]:
    """Warnings that say different things: of those that differ in figures alone, the largest and how many."""
    groups: dict[str, list[str]] = {}
    for warning in dict.fromkeys(warnings):
        groups.setdefault(_FIGURE.sub(lambda m: "#" if m[1] else m[0], warning), []).append(warning)
    return [_largest_of(group) for group in groups.values()]


def _largest_of(group: Sequence[str]) -> str:
    largest = max(group, key=lambda text: [float(n) for n in _FIGURE.findall(text) if n])
    return largest if len(group) == 1 else f"{largest} (the largest of {len(group)})"


def _verdict(verdicts: Mapping[str, str]) -> str:
    """The worst of a row; an engine that was built but could not be run is not one that passed."""
    found = worst(verdicts.values())
    return "unverified" if found == "pass" and verdicts.get("outputs") == "skipped" else found


def _largest(data: Iterable[Mapping[str, Any]], key: str) -> float | None:
    return largest(item.get(key) for item in data)
