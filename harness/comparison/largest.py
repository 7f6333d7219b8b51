"""The largest few of very many values, and the quantiles they give."""

from __future__ import annotations

import math

import numpy as np

from harness.comparison.blocks import Floats

SPARE = 512
"""Room beyond the values wanted, at least."""


class Largest:
    """The largest `share` of `total` values, streamed: exact, in room for half as many more.

    `threshold` is a value that at least as many values seen have reached: smaller ones need not be added.
    It starts at `bound`, a guess, which was right if the largest are `complete` in the end.
    """

    def __init__(self, total: int, share: float, bound: float = 0.0) -> None:
        self._total = total
        self._wanted = total - math.ceil((1.0 - share) * total) + 1
        self._room = np.empty(min(total, self._wanted + max(self._wanted // 2, SPARE)), np.float64)
        self._used = 0
        self._bound = self.threshold = bound

    @property
    def complete(self) -> bool:
        """Whether all are there: what was left out is 0, or not above as many as are wanted."""
        return self._bound == 0.0 or self._used >= self._wanted

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
        kept = self._room[: self._used]
        place = kept.size - (self._total - math.ceil(q * self._total)) - 1
        if place < 0:
            return 0.0
        kept.partition(place)
        return kept.item(place)
