"""Exact comparison of two tensors: how many elements differ, and the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.comparison.blocks import Array, Layout, Walk, blocks_of, layout_of


@dataclass(frozen=True)
class Equality:
    """Elements compared, elements that differ, and the first that does; NaN equals NaN in the same place."""

    size: int
    unequal: int
    index: tuple[int, ...] | None = None
    actual: int | float | bool | None = None
    expected: int | float | bool | None = None

    @property
    def fraction(self) -> float:
        """Share of elements that differ."""
        return self.unequal / self.size if self.size else 0.0


def count_unequal(actual: Array, expected: Array) -> Equality:
    """Compare two tensors of one shape element by element, in blocks, without subtracting integers."""
    layout = layout_of(actual.shape, None)
    walks = Walk(actual, layout), Walk(expected, layout)
    unequal, first = 0, None
    for block in blocks_of(layout):
        apart = _apart(*(walk.read(block.start, block.stop) for walk in walks))
        found = int(np.count_nonzero(apart))
        if found and first is None:
            first = block.start + int(np.argmax(apart))
        unequal += found
    return _result(actual, expected, layout, unequal, first)


def _apart(actual: Array, expected: Array) -> Any:
    apart = actual != expected
    if actual.dtype.kind in "iub" or not apart.any():
        return apart
    return apart & ~((actual != actual) & (expected != expected))


def _result(actual: Array, expected: Array, layout: Layout, unequal: int, first: int | None) -> Equality:
    if first is None:
        return Equality(actual.size, 0)
    index = layout.index(first)
    return Equality(actual.size, unequal, index, actual[index].item(), expected[index].item())
