"""A sample of local errors, and the bound that it puts to the largest of them all."""

from __future__ import annotations

import math

import numpy as np

from harness.comparison.buffers import Buffers
from harness.comparison.local_error import local_errors

SPACING, ABOUT = 127, 4096
"""One element in SPACING is taken, or in more where that would be more than ABOUT."""

DEVIATIONS = 5.0
"""How many standard deviations of its number the elements above the bound are more than they need be."""


class Sample:
    """|d| and |r| of evenly spaced elements of a tensor of `size`.

    The spacing is odd, so that it falls into no step with powers of two.
    """

    def __init__(self, size: int) -> None:
        self.spacing = max(SPACING, size // ABOUT) | 1
        self._used, self._both = 0, np.empty((2, -(-size // self.spacing)))

    def add(self, room: Buffers, start: int) -> None:
        """Take some of the block that is in `room` and starts at position `start`."""
        some = room.both[:, -start % self.spacing :: self.spacing]
        stop = self._used + some.shape[1]
        self._both[:, self._used : stop] = some
        self._used = stop

    def bound(self, unit: float, share: float) -> float:
        """A value that more than `share` of all local errors exceed in all likelihood; 0 if none is known."""
        errors = local_errors(self._both[0], self._both[1], unit)
        above = share * errors.size
        place = errors.size - math.ceil(above + DEVIATIONS * math.sqrt(above) + 3.0)
        if place < 0:
            return 0.0
        errors.partition(place)
        bound = errors.item(place)
        return bound if math.isfinite(bound) else 0.0
