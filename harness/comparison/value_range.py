"""How the values of a tensor lie in the range of a number format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.comparison.blocks import Array, Walk, blocks_of, layout_of
from harness.precision import Precision

_STEP = 1 << 16


@dataclass(frozen=True)
class Format:
    """The largest finite number of a format, and the smallest that is not subnormal."""

    largest: float
    smallest: float


FP16 = Format(65504.0, 2.0**-14)
BF16 = Format((2.0 - 2.0**-7) * 2.0**127, 2.0**-126)
FP32 = Format(float(np.finfo(np.float32).max), 2.0**-126)


def format_of(precision: Precision) -> Format:
    """The format that unquantized nodes of `precision` compute in."""
    return {Precision.FP16: FP16, Precision.BF16: BF16}.get(precision.half or precision, FP32)


@dataclass(frozen=True)
class ValueRange:
    """The largest finite |x| of a tensor and the share of its elements that a format holds as subnormals."""

    largest: float
    subnormal: float


@dataclass
class RangeSum:
    """The range of a tensor whose magnitudes are added block by block."""

    number_format: Format
    largest: float = 0.0
    small: int = 0

    def add(self, size: Array) -> None:
        """Take a block of |x| into account, in a float dtype."""
        self.largest = max(self.largest, _largest(size))
        below = int(np.count_nonzero(size < self.number_format.smallest))
        self.small += below - (int(np.count_nonzero(size == 0.0)) if below else 0)

    def found(self, count: int) -> ValueRange:
        """The range of the tensor, which has `count` elements."""
        return ValueRange(self.largest, self.small / max(1, count))


def measure_range(array: Array, number_format: Format) -> ValueRange:
    """The range of a float tensor, in one pass over cache-sized blocks."""
    walk, layout = Walk(array, layout_of(array.shape, None)), layout_of(array.shape, None)
    sum_, room = RangeSum(number_format), np.empty(min(_STEP, max(1, array.size)), _wide(array))
    for block in blocks_of(layout, _STEP):
        values = walk.read(block.start, block.stop)
        sum_.add(np.abs(values, out=room[: values.size], casting="unsafe"))
    return sum_.found(array.size)


def _wide(array: Array) -> type[np.float32] | type[np.float64]:
    return np.float32 if array.itemsize < 8 else np.float64


def _largest(size: Array) -> float:
    found = float(size.max())
    if np.isfinite(found):
        return found
    finite = size[np.isfinite(size)]
    return float(finite.max()) if finite.size else 0.0
