"""The FP32 nodes that searches of a run propose, for the terminal and for summary.md."""

from __future__ import annotations

import json
from collections.abc import Iterable

from harness.records import Record
from harness.report.terminal import one_line

SHOWN = 3
WIDTH = 400


def proposing(records: Iterable[Record]) -> list[Record]:
    """The records of searches that found nodes."""
    return [record for record in records if record.kind == "search" and record.data.get("fp32_nodes")]


def lines(records: Iterable[Record]) -> list[str]:
    """One line for each search that found nodes, one for each that did not."""
    every = [record for record in records if record.kind == "search"]
    found = proposing(every)
    told = [_line(record) for record in found]
    rest = [record for record in every if record not in found]
    told += [f"{_label(record)}: FP32 search: {record.message.partition(chr(10))[0]}" for record in rest]
    return [one_line(text, WIDTH) for text in told]


def toml(record: Record) -> str:
    """What to write into the spec."""
    names = "".join(f"    {json.dumps(name, ensure_ascii=False)},\n" for name in record.data["fp32_nodes"])
    key = record.precision if record.precision.isalnum() else json.dumps(record.precision)
    return f"[precision.{key}]\nfp32_nodes = [\n{names}]"


def _line(record: Record) -> str:
    names = [str(name) for name in record.data["nodes"]]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    count = "1 node" if len(names) == 1 else f"{len(names)} nodes"
    return f"{_label(record)}: proposal: keep {count} in FP32: {', '.join(names[:SHOWN])}{more}"


def _label(record: Record) -> str:
    return f"{record.model}[{record.precision}]"
