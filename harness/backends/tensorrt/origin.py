"""Where a plan comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Which bindings built a plan, and for which GPU (empty: none was there)."""

    backend: str
    version: str
    gpu: str
    compute_capability: str
