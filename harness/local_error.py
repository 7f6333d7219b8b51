"""Local errors |d| / max(|r|, m) of a streamed tensor: the largest, where it is, and high quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.blocks import BLOCK, Floats
from harness.largest import Largest

Places = NDArray[np.intp]


class LocalErrors:
    """Takes blocks of |d| and |r|; divides only where an error may be among the largest `share` of `total`.

    Candidates of several blocks are gathered first, because small arrays cost more than their work.
    """

    def __init__(self, total: int, share: float, unit: float) -> None:
        self._largest, self._unit = Largest(total, share), unit
        self._waiting: list[tuple[Floats, Floats, Places]] = []
        self._count = 0
        self.error, self.position = -1.0, 0

    def add(self, d: Floats, r: Floats, start: int) -> None:
        """Take the block that starts at position `start` into account."""
        at = np.flatnonzero(d > self._largest.threshold * self._unit)
        if at.size:
            self._waiting.append((d[at], r[at], at + start))
            self._count += at.size
            if self._count >= BLOCK // 2:
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

    def finish(self) -> None:
        """Take what still waits into account; nothing is added after."""
        self._settle()

    def quantile(self, q: float) -> float:
        """The smallest error that a share `q` of all does not exceed."""
        return self._largest.quantile(q)


def _joined(parts: tuple[Any, ...]) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
