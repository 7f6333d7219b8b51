"""The tables of a survey and its exit code."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.spoil.catalogue import SEEN_BY
from benchmarks.spoil.survey import Result

SHARES = {"fp32": 0.0, "tf32": 0.0, "fp16": 0.0, "bf16": 0.01, "int8": 0.01, "int8+fp16": 0.01}
"""The largest share of spoilt engines that may do harm and pass, by precision."""
LISTED = 12


def above_target(results: Sequence[Result]) -> list[str]:
    """The targets that are missed, one line each."""
    missed = []
    for precision, count, harmful in _counts(results):
        if harmful > SHARES[precision] * count:
            missed.append(
                f"{precision}: {harmful} of {count} pass and do harm, target {SHARES[precision]:.0%}"
            )
    if alarms := sum(one.outcome == "false alarm" for one in results):
        missed.append(f"{alarms} right variants raise an alarm, target 0")
    return missed


def _counts(results: Sequence[Result]) -> Iterator[tuple[str, int, int]]:
    spoilt = [one for one in results if one.outcome in ("caught", "harmless", "harmful")]
    for precision in dict.fromkeys(one.precision for one in results):
        mine = [one for one in spoilt if one.precision == precision]
        yield precision, len(mine), sum(one.outcome == "harmful" for one in mine)


def table(results: Sequence[Result], seconds: float) -> str:
    """Counts by precision, harmful survivors by family, and the first of each family by name."""
    lines = ["precision  spoilt  caught  harmless  harmful  (of these told)  variants  alarms"]
    for precision in dict.fromkeys(one.precision for one in results):
        lines.append(_line(precision, [one for one in results if one.precision == precision]))
    lines.append(_line("all", results))
    harmful = [one for one in results if one.outcome == "harmful"]
    lines += ["", "harmful survivors by family, and what would see them", *_families(harmful)]
    lines += ["", *(f"FALSE ALARM {one.key}: {one.why}" for one in results if one.outcome == "false alarm")]
    return "\n".join([*lines, f"{seconds:.0f} s"])


def _line(label: str, results: Sequence[Result]) -> str:
    found = Counter(one.outcome for one in results)
    told = sum(one.told for one in results if one.outcome == "harmful")
    spoilt = found["caught"] + found["harmless"] + found["harmful"]
    return (
        f"{label:<9}  {spoilt:>6}  {found['caught']:>6}  {found['harmless']:>8}  {found['harmful']:>7}  "
        f"{told:>15}  {found['right'] + found['false alarm']:>8}  {found['false alarm']:>6}"
    )


def _families(harmful: Sequence[Result]) -> Iterator[str]:
    for family, count in Counter(one.family for one in harmful).most_common():
        yield f"{family} ({count}): {SEEN_BY[family]}"
        mine = [one for one in harmful if one.family == family]
        yield from (f"    {one.key} | {one.why}" for one in mine[:LISTED])
        if len(mine) > LISTED:
            yield f"    and {len(mine) - LISTED} more"


def write(results: Iterable[Result], path: Path) -> None:
    """All results as JSON."""
    path.write_text(json.dumps([asdict(one) for one in results], indent=0) + "\n", encoding="utf-8")
