"""How one case of a run differs from the same of a baseline, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from harness.report.keys import CaseKey

Status = Literal[
    "regression", "improvement", "same", "undecided", "not comparable", "new", "gone", "renamed", "skipped",
    "allowed",
]  # fmt: skip
COMPARED: frozenset[Status] = frozenset({"regression", "improvement", "same", "undecided"})
"""What two sides that hold the same case give."""
MISSING: frozenset[Status] = frozenset({"gone", "renamed", "skipped"})
"""What the baseline has and the run has not; it fails the run unless it is meant (`missing`)."""


@dataclass(frozen=True)
class Difference:
    """How one case changed; `figure` is what was compared: `verdict`, `mre`, `drop`, or
    one of `figures.FIGURES`."""

    key: CaseKey
    figure: str
    status: Status
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The difference as JSON-ready data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.key}: {self.figure} {self.text}"
