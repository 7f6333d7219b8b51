"""A streaming histogram of magnitudes: one pass over the data, bins that double in width when needed.

The range is always the smallest power of two above the largest magnitude seen, so the histogram depends on
what was added and not on the order or the pieces in which it came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.calibration.counting import BLOCK, SLOTS, Counter

BINS = SLOTS - 1
MASK_MAGNITUDE = 1e30
"""Above this a value is an attention mask or an overflow, not data: it never sets a range."""
LOWEST_EXPONENT = -100
"""Range 2**-100 at least, so that bin widths and their inverses stay normal float32 numbers."""

_counter = Counter()


@dataclass
class Histogram:
    """Counts of |x| over `BINS` bins of equal width from 0, zeros apart, computed in float32.

    `counts`: bin k holds (k * width, (k + 1) * width].  `zeros`: exact zeros, and what is smaller than
    2**-149 bins.  `maximum`: largest magnitude counted.  `masked`: values infinite or beyond
    `MASK_MAGNITUDE`.  `not_numbers`: NaNs.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    exponent: int = LOWEST_EXPONENT
    maximum: float = 0.0
    zeros: int = 0
    masked: int = 0
    not_numbers: int = 0

    @property
    def width(self) -> float:
        """Width of a bin, a power of two."""
        return math.ldexp(1.0, self.exponent) / BINS

    @property
    def total(self) -> int:
        """Values counted, zeros among them."""
        return int(self.counts.sum()) + self.zeros

    @property
    def used(self) -> int:
        """Bins up to the last that is not empty."""
        filled = np.flatnonzero(self.counts)
        return int(filled[-1]) + 1 if filled.size else 0

    def add(self, values: NDArray[Any]) -> None:
        """Count an array of any shape, of a floating type."""
        flat = values.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            self._add_block(flat[start : start + BLOCK])

    def _add_block(self, block: NDArray[Any]) -> None:
        with np.errstate(over="ignore"):
            magnitudes = np.abs(block, out=_counter.floats[: block.size], casting="same_kind")
        largest = float(magnitudes.max())
        if not largest <= MASK_MAGNITUDE:
            magnitudes = self._without_masks(magnitudes)
            largest = float(magnitudes.max(initial=0.0))
        if largest > 0.0:
            self._cover(largest)
            self._count(magnitudes)
        else:
            self.zeros += magnitudes.size

    def _without_masks(self, magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
        numbers = magnitudes[~np.isnan(magnitudes)]
        data = numbers[numbers <= MASK_MAGNITUDE]
        self.not_numbers += magnitudes.size - numbers.size
        self.masked += numbers.size - data.size
        return data

    def _cover(self, largest: float) -> None:
        """Widen the bins until `largest` falls into one."""
        self.maximum = max(self.maximum, largest)
        exponent = max(math.frexp(largest)[1], LOWEST_EXPONENT)
        if exponent <= self.exponent:
            return
        merged = min(1 << min(exponent - self.exponent, 62), BINS)
        counts = np.zeros(BINS, np.int64)
        counts[: BINS // merged] = self.counts.reshape(-1, merged).sum(axis=1)
        self.counts, self.exponent = counts, exponent

    def _count(self, magnitudes: NDArray[np.float32]) -> None:
        # Scaling by a power of two is exact, so the ceiling is that of the float32 value itself.
        scaled = np.multiply(magnitudes, np.float32(1.0 / self.width), out=magnitudes)
        slots = _counter.count(np.ceil(scaled, out=scaled))
        self.zeros += int(slots[0])
        self.counts += slots[1:]
