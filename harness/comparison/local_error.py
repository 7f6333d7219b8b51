"""Local errors |d| / max(|r|, m) of a streamed tensor: the largest, where it is, high quantiles, a sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.comparison.blocks import Floats
from harness.comparison.buffers import Buffers
from harness.comparison.largest import Largest

Places = NDArray[np.intp]

TINY = float(np.finfo(np.float64).tiny)
"""Added to |r| it prevents division by zero, and changes nothing that is not as small."""

BELOW = 1.0 - 2.0**-40
"""Bounds are taken so much lower, because what is compared with them was rounded in other ways."""

ORDINARY = 2.0**-900
"""Numbers from here on are so large that TINY is nothing beside them, and their products lose no digits."""


def local_errors(d: Floats, r: Floats, unit: float) -> Floats:
    """|d| / max(|r|, unit); 0 where |d| is 0 or nothing is known."""
    errors = d / np.maximum(r, unit)
    errors[(d == 0.0) | np.isnan(errors)] = 0.0
    return errors


class LocalErrors:
    """Takes blocks of |d| and |r|; looks closer only at what may be among the largest `share` of `total`.

    Candidates of several blocks are gathered first, `most` or a block's more, because small arrays cost more
    than their work.  `bound` is believed to be below all of the largest; `finish` tells whether it was.
    """

    def __init__(self, total: int, share: float, unit: float, *, bound: float, most: int) -> None:
        self._largest, self._unit, self._most = Largest(total, share, BELOW * bound), unit, most
        self._waiting: list[tuple[Floats, Floats, Places]] = []
        self._count = 0
        self.error, self.position = -1.0, 0

    def add(self, room: Buffers, start: int) -> None:
        """Take the block that starts at position `start` into account; `spare` holds |d| / (|r| + TINY)."""
        bound = BELOW * self._largest.threshold
        limit = bound * self._unit
        near = room.d > (0.0 if limit < ORDINARY else limit)
        if self._unit > ORDINARY:
            near &= room.spare > bound
        at = near.nonzero()[0]
        if at.size:
            self._waiting.append((room.d[at], room.r[at], at + start))
            self._count += at.size
            if self._count >= self._most:
                self._settle()

    def _settle(self) -> None:
        if not self._waiting:
            return
        d, r, at = (_joined(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._count = [], 0
        errors = d / np.maximum(r, self._unit)
        first = int(errors.argmax())
        if errors[first] > self.error:
            self.error, self.position = float(errors[first]), int(at[first])
        self._largest.add(errors[errors > self._largest.threshold])

    def finish(self) -> bool:
        """Take what still waits into account; nothing is added after.  False if the bound was too high."""
        self._settle()
        return self._largest.complete

    def quantile(self, q: float) -> float:
        """The smallest error that a share `q` of all does not exceed."""
        return self._largest.quantile(q)


def _joined(parts: tuple[Any, ...]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


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
