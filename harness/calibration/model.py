"""What calibration returns: a range for each tensor, and how it was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.lowering.model import Ranges

DEFAULT_MEMORY_BYTES = 512 << 20
Judge = Callable[[Ranges], float]
"""The mean relative error that a set of ranges leads to."""


@dataclass(frozen=True)
class Choice:
    """One method that `auto` tried: its options and the `mre` it led to on held-out samples."""

    method: str
    percentile: float | None
    mre: float

    def __str__(self) -> str:
        return self.method if self.percentile is None else f"{self.method} {self.percentile:g}"


@dataclass(frozen=True)
class Calibration:
    """Largest magnitudes that INT8 covers, by tensor name, and how they were found.

    `method`: what made them, such as "entropy" or "percentile 99.99".  `samples`: feeds that were run.
    `choices`: what `auto` measured, best first.  `warnings`: values left out and what else is odd.
    `reason`: "computed", "hit", or why the cached ranges were made again.
    """

    ranges: Ranges
    method: str
    samples: int
    choices: tuple[Choice, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str = "computed"
