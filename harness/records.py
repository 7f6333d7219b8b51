"""One record for each thing that was checked or measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["engine", "outputs", "accuracy", "layers", "latency", "search", "metamorphic"]
Verdict = Literal["pass", "precision-limited", "engine-suspect", "fail", "error", "skipped", "unverified"]


@dataclass(frozen=True)
class Record:
    """One checked or measured case; plain JSON data through and through, so that it crosses processes.

    `shapes` is input name -> shape.  `data` depends on `kind` and is documented in reports/README.md.
    `manifest` is the hash of the manifest of the engine that was used.  `run` is set in merged results.
    """

    kind: Kind
    model: str
    precision: str
    backend: str
    verdict: Verdict
    profile: str | None = None
    shapes: Mapping[str, list[int]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    manifest: str | None = None
    warnings: tuple[str, ...] = ()
    message: str = ""
    nodeid: str = ""
    reproduce: str = ""
    duration_s: float | None = None
    run: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON-ready data."""
        return asdict(self)
