"""Histograms of a tensor and its error, small enough for a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 48
MOST = 1 << 20
"""Elements looked at, at most: a larger tensor is taken in even strides."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """Counts between `edges` (one more than counts)."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TensorHistogram:
    """The values of both sides over common edges, and log10 of the local error |d| / max(|r|, mean|r|).

    Elements that are not finite on either side are left out and counted in `not_finite`; errors of exactly 0
    have no logarithm and are counted in `equal`.
    """

    expected: Histogram
    actual: Histogram
    errors: Histogram
    equal: int
    not_finite: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        values = {"edges": list(self.expected.edges), "expected": list(self.expected.counts)}
        return {
            "values": {**values, "actual": list(self.actual.counts)},
            "errors": {"edges": list(self.errors.edges), "counts": list(self.errors.counts)},
            "equal": self.equal,
            "not_finite": self.not_finite,
        }


def tensor_histogram(actual: NDArray[Any], expected: NDArray[Any], bins: int = BINS) -> TensorHistogram:
    """The histograms of two tensors of one shape; values beyond the reference's range are in the end bins."""
    got, wanted = _some(actual), _some(expected)
    finite = np.isfinite(got) & np.isfinite(wanted)
    got, wanted = got[finite], wanted[finite]
    edges = _edges(wanted, bins)
    errors = _local_errors(got, wanted)
    large = np.log10(errors[errors > 0])
    return TensorHistogram(
        _histogram(wanted, edges),
        _histogram(got, edges),
        _histogram(large, _edges(large, bins)),
        equal=int(np.count_nonzero(errors == 0)),
        not_finite=int(finite.size - np.count_nonzero(finite)),
    )


def _some(array: NDArray[Any]) -> Floats:
    flat = np.asarray(array).reshape(-1)
    return flat[:: max(1, -(-flat.size // MOST))].astype(np.float64)


def _local_errors(got: Floats, wanted: Floats) -> Floats:
    size = np.abs(wanted)
    least = float(size.mean()) if size.size else 0.0
    floor = np.maximum(size, least)
    return np.abs(got - wanted) / np.where(floor > 0, floor, 1.0)


def _edges(values: Floats, bins: int) -> Floats:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def _histogram(values: Floats, edges: Floats) -> Histogram:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))
