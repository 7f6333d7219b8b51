"""A streaming histogram of magnitudes: one pass over the data, bins that double in width when needed.

The range is always the smallest power of two above the largest magnitude seen, so the histogram depends on
what was added and not on the order or the pieces in which it came.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 4096
MASK_MAGNITUDE = 1e30
"""Above this a value is an attention mask or an overflow, not data: it never sets a range."""
LOWEST_EXPONENT = -100
"""Range 2**-100 at least, so that bin widths and their inverses stay normal float32 numbers."""
BLOCK = 65536


class _Scratch(threading.local):
    """Buffers of one block for one thread, small enough to stay in its cache."""

    def __init__(self) -> None:
        self.magnitudes = np.empty(BLOCK, np.float32)
        self.indices = np.empty(BLOCK, np.intp)


_scratch = _Scratch()


@dataclass
class Histogram:
    """Counts of |x| over `BINS` bins of equal width from 0, exact zeros apart.

    `maximum`: largest magnitude counted.  `masked`: values infinite or beyond `MASK_MAGNITUDE`.
    `not_numbers`: NaNs.  Bin k holds [k * width, (k + 1) * width), computed in float32.
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
        """Values counted, exact zeros among them."""
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
        buffer = _scratch.magnitudes[: block.size]
        with np.errstate(over="ignore"):
            magnitudes = np.abs(block, out=buffer, casting="same_kind")
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
        # Scaling by a power of two is exact, so truncation gives the bin of the float32 value itself.
        indices = _scratch.indices[: magnitudes.size]
        # Without the sign only the bits of +0 are zero, and integers are counted three times faster.
        zeros = magnitudes.size - int(np.count_nonzero(magnitudes.view(np.uint32)))
        np.multiply(magnitudes, np.float32(1.0 / self.width), out=indices, casting="unsafe")
        self.counts += np.bincount(indices, minlength=BINS)
        self.counts[0] -= zeros
        self.zeros += zeros
