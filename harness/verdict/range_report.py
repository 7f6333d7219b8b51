"""What a range pre-flight found, as data and in words.  Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

NAMED = 5
"""How many tensors a warning names."""
MASK = 1e30
"""Magnitudes above this are masks, which lose nothing by becoming infinite."""


@dataclass(frozen=True)
class Extent:
    """The largest finite |x| of a tensor, and the node that makes it (none for an input or weight)."""

    tensor: str
    largest: float
    node: str = ""
    op_type: str = ""


@dataclass(frozen=True)
class RangeReport:
    """What `precision` cannot hold.

    `feeds` is how many sets of feeds were run, 0 where nothing is 16-bit; `unseen`: 16-bit
    tensors in subgraphs; `reason`: why nothing is known.
    """

    precision: str
    overflow: tuple[Extent, ...] = ()
    vanish: tuple[Extent, ...] = ()
    weights_overflow: tuple[str, ...] = ()
    weights_vanish: tuple[str, ...] = ()
    feeds: int = 0
    unseen: int = 0
    reason: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each kind of loss, naming the first tensors in graph order."""
        return tuple(_warnings(self))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RangeReport:
        """The report of `to_json`."""
        return cls(
            data["precision"],
            overflow=tuple(Extent(**one) for one in data["overflow"]),
            vanish=tuple(Extent(**one) for one in data["vanish"]),
            weights_overflow=tuple(data["weights_overflow"]),
            weights_vanish=tuple(data["weights_vanish"]),
            feeds=data["feeds"],
            unseen=data["unseen"],
            reason=data["reason"],
        )


def _warnings(found: RangeReport) -> Iterator[str]:
    """One line for each kind of loss, naming the first tensors in graph order."""
    what = found.precision.rpartition("+")[2]
    if found.reason:
        yield f"ranges are not known: {found.reason}"
    if found.unseen:
        yield f"{_count(found.unseen, 'was', 'were')} not looked at, because subgraphs hold them"
    masks = [one for one in found.overflow if one.largest >= MASK]
    values = [one for one in found.overflow if one.largest < MASK]
    if values:
        yield f"{_count(len(values), 'overflows', 'overflow')} {what} on this data: {_list(values)}"
    if masks:
        verb = ("is a mask and becomes", "are masks and become")
        yield f"{_count(len(masks), *verb)} infinite in {what}: {_list(masks)}"
    if lost := found.vanish:
        yield f"{_count(len(lost), 'vanishes', 'vanish')} in {what} on this data: {_list(lost)}"
    if weights := found.weights_overflow:
        yield f"weights beyond the range of {what}, whose nodes stay FP32: {_names(weights)}"
    if found.weights_vanish:
        yield f"weights that vanish in {what}: {_names(found.weights_vanish)}"


def _count(count: int, one: str, many: str) -> str:
    return f"1 tensor {one}" if count == 1 else f"{count} tensors {many}"


def _list(extents: Iterable[Extent]) -> str:
    every = list(extents)
    return _cut([f"{e.tensor!r} ({e.op_type or 'input'}, |x| up to {e.largest:.3g})" for e in every])


def _names(names: Iterable[str]) -> str:
    return _cut([repr(name) for name in names])


def _cut(words: list[str]) -> str:
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more
