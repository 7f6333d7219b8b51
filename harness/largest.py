"""The largest few of very many values, and the quantiles they give."""

from __future__ import annotations

import math

import numpy as np

from harness.blocks import BLOCK, Floats


class Largest:
    """The largest `share` of `total` values, streamed: exact, in room for twice as many (and a block).

    `threshold` is a value that at least as many values seen have reached: smaller ones need not be added.
    """

    def __init__(self, total: int, share: float) -> None:
        self._total = total
        self._wanted = total - math.ceil((1.0 - share) * total) + 1
        self._room = np.empty(min(total, self._wanted + max(self._wanted, BLOCK)), np.float64)
        self._used = 0
        self.threshold = 0.0

    def add(self, values: Floats) -> None:
        """Take values above the threshold into account."""
        while values.size:
            if self._used == self._room.size:
                self._prune()
            taken = values[: self._room.size - self._used]
            self._room[self._used : self._used + taken.size] = taken
            self._used += taken.size
            values = values[taken.size :]

    def _prune(self) -> None:
        self._room.partition(self._used - self._wanted)
        self._room[: self._wanted] = self._room[self._used - self._wanted : self._used]
        self._used = self._wanted
        self.threshold = float(self._room[: self._wanted].min())

    def quantile(self, q: float) -> float:
        """The smallest value that a share `q` of all values does not exceed (`inverted_cdf`)."""
        above = self._total - math.ceil(q * self._total)
        if above >= self._used:
            return 0.0
        return float(np.partition(self._room[: self._used], self._used - above - 1)[self._used - above - 1])
