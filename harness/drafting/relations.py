"""How the axes of a model's inputs may hang together where its file does not say: guesses to be tried."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.drafting.guesses import STATES, Axis, DraftInput
from harness.spec.axes import parse

LEADING = re.compile(r"mask|total|key", re.IGNORECASE)
"""What inputs are called whose length is more often the sum of others than not."""


def related(inputs: tuple[DraftInput, ...]) -> Iterator[tuple[DraftInput, ...]]:
    """Other readings of the axes, likely ones first: caches alike, then one length the sum of two others."""
    alike = tied(inputs)
    if alike != inputs:
        yield alike
    for target in sorted(_lengths(alike), key=lambda symbol: not LEADING.search(symbol)):
        rows = _rows(alike, target)
        others = [symbol for symbol in _lengths(rows) if symbol != target]
        sums = [f"{a} + {b}" for a, b in itertools.combinations(others, 2)] + [f"{a} + 1" for a in others]
        yield from (following(rows, target, text) for text in sums)


def tied(inputs: tuple[DraftInput, ...]) -> tuple[DraftInput, ...]:
    """Inputs of three axes and more that look alike share the axes of the first: caches of many layers."""
    first: dict[tuple[object, ...], DraftInput] = {}
    found = []
    for one in inputs:
        look = (one.dtype, *((axis.kind, axis.size, axis.follows) for axis in one.axes))
        model = first.setdefault(look, one) if len(one.axes) >= 3 else one
        found.append(replace(one, axes=model.axes))
    return tuple(found)


def _rows(inputs: tuple[DraftInput, ...], target: str) -> tuple[DraftInput, ...]:
    """Inputs of two axes have one length, but for `target`: token ids, their positions, their types."""
    lengths = [a.symbol for one in inputs for a in one.axes if len(one.axes) == 2 and a.kind == "length"]
    first = next((symbol for symbol in lengths if symbol and symbol != target), None)
    rest = {symbol for symbol in lengths if symbol not in (target, first, "")}
    return tuple(
        replace(
            one, axes=tuple(replace(a, symbol=first) if first and a.symbol in rest else a for a in one.axes)
        )
        for one in inputs
    )


def following(inputs: tuple[DraftInput, ...], symbol: str, text: str) -> tuple[DraftInput, ...]:
    """The inputs with every axis `symbol` the size that `text` gives."""
    new = Axis("length", follows=text)
    return tuple(
        replace(one, axes=tuple(new if a.symbol == symbol else a for a in one.axes)) for one in inputs
    )


def states(inputs: Sequence[DraftInput]) -> frozenset[str]:
    """The lengths of inputs that, by their names or the axes', may be empty at first."""
    return frozenset(
        axis.symbol
        for one in inputs
        for axis in one.axes
        if axis.symbol and axis.kind == "length" and (STATES.search(one.name) or STATES.search(axis.symbol))
    )


def offset(one: DraftInput, inputs: Sequence[DraftInput]) -> str | None:
    """The axis that positions start at: what some other length has beyond their own; None without one."""
    if not one.axes or one.axes[-1].kind == "batch":
        return None
    last = one.axes[-1]
    texts = {axis.follows: None for other in inputs for axis in other.axes if axis.follows}
    for text in texts:
        found = parse(text)
        for name in sorted(found.names - {last.symbol}):
            sizes = {name: 5, last.symbol: 3} if last.symbol else {name: 5}
            if sizes.keys() >= found.names and found.at(sizes) == 5 + (3 if last.symbol else last.size):
                return name
    return None


def _lengths(inputs: Sequence[DraftInput]) -> list[str]:
    lengths = (axis.symbol for one in inputs for axis in one.axes if axis.symbol and axis.kind == "length")
    return list(dict.fromkeys(lengths))
