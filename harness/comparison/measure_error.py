"""Measuring the error of a tensor against its reference, in bounded memory.

The first pass (`error_sums`) finds the sums and the non-finite elements, the second what needs mean|r|.  A
brief measurement (`brief_sums`) has no second pass: it takes high quantiles and violations from an evenly
spaced sample, and the largest local error from that sample and the largest |d| of every block, which no gross
error evades.  Verdicts rest on measurements that are not brief, all in float64.

The second pass need look closely only at what may be among the largest 1 % of the local errors.  A sample
of the first says from where on that is likely; where it was wrong, the pass is made again without it.

Memory beyond the tensors: three buffers of up to 16,384 elements, fewer for tensors below about 8 MB (brief:
two of 65,536, of float32); the largest 1 % of the local errors, half as many more, and a sample of at most
8,192; three sums for every index of every axis, but axes whose sums would take more than an eighth of the
tensors (and 1 MiB) are left out (brief: two sums a row, on the same terms).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.comparison.blocks import Array, Floats, Pair, layout_of
from harness.comparison.brief_sums import Brief, survey
from harness.comparison.error_sums import Sums, add_up
from harness.comparison.local_error import TINY, LocalErrors, local_errors
from harness.comparison.metrics import Element, Metrics, decibels, ratio
from harness.comparison.slices import Slices
from harness.comparison.value_range import Format

P99, P999 = 0.99, 0.999


@dataclass(frozen=True)
class _Measures:
    """What local errors and violations are measured with."""

    unit: float
    atol: float
    rtol: float


@dataclass(frozen=True)
class _Local:
    """What needs mean|r|: quantiles and largest of the local errors, and shares of all finite elements."""

    p99: float
    p999: float
    error: float
    position: int
    violations: float
    elementwise_mean: float


def measure_error(
    actual: Array,
    expected: Array,
    *,
    rtol: float,
    atol: float | None = None,
    scale: float | None = None,
    batch_axis: int | None = 0,
    brief: Format | None = None,
) -> Metrics:
    """The metrics of two float tensors of one shape; any layout, any real dtype.

    `rtol` and `atol` are for `violations`; `scale` is the least mean|r| that is judged relatively.  `brief`
    measures in one pass, in float32 where that is within 1e-5 of float64: a tenth of the work.  It leaves
    out slices and the element-wise mean, and tells the reference's range in the format given.
    """
    pair, tensors = Pair(actual, expected, layout_of(actual.shape, batch_axis)), (actual, expected)
    with np.errstate(all="ignore"):
        if brief is not None:
            found = survey(pair, tensors, brief)
            measures = _measures(found.sums, rtol, atol, scale)
            parts = _row_parts(found.sums, measures)
            metrics = _metrics(pair, tensors, found.sums, scale, measures, _sampled(found, measures))
            return replace(metrics, values=found.values, **parts)
        sums, measures, bound, parts = _first_pass(pair, rtol, atol, scale)
        local = _second_pass(pair, sums, measures, bound)
        return replace(_metrics(pair, tensors, sums, scale, measures, local), **parts)


def _measures(sums: Sums, rtol: float, atol: float | None, scale: float | None) -> _Measures:
    return _Measures(max(sums.mean, scale or 0.0), rtol * sums.rms if atol is None else atol, rtol)


def _first_pass(
    pair: Pair, rtol: float, atol: float | None, scale: float | None
) -> tuple[Sums, _Measures, float, dict[str, Any]]:
    slices = Slices(pair.layout, pair.nbytes)
    sums, sample = add_up(pair, slices)
    measures = _measures(sums, rtol, atol, scale)
    parts = _slice_parts(pair, slices, measures, scale)
    return sums, measures, sample.bound(measures.unit, 1.0 - P99), parts


def _second_pass(pair: Pair, sums: Sums, measures: _Measures, bound: float) -> _Local:
    """Pass over `pair` once more; and again if too few local errors were above `bound`, a guess."""
    errors = LocalErrors(sums.finite, 1.0 - P99, measures.unit, bound=bound, most=pair.step // 8)
    room, violations, quotients = pair.room, 0, 0.0
    for block, (peak, _, _) in zip(pair.blocks(), sums.peaks, strict=True):
        if block.start in sums.odd.starts:
            pair.drop_non_finite(block)
        np.divide(room.d, np.add(room.r, TINY, out=room.spare), out=room.spare)
        quotients += room.spare_total()
        errors.add(room, block.start)
        if peak > measures.atol:
            violations += _violations(room.d, room.r, measures, room.spare)
    if not errors.finish():
        return _second_pass(pair, sums, measures, 0.0)
    count = max(sums.finite, 1)
    quantiles = errors.quantile(P99), errors.quantile(P999)
    return _Local(*quantiles, errors.error, errors.position, violations / count, quotients / count)


def _violations(d: Floats, r: Floats, measures: _Measures, room: Floats | None = None) -> int:
    allowed = np.multiply(r, measures.rtol, out=room)
    allowed += measures.atol
    return int(np.count_nonzero(d > allowed))


def _sampled(found: Brief, measures: _Measures) -> _Local:
    peaks, unit = np.array(found.sums.peaks).reshape(-1, 3), measures.unit
    violations = _violations(found.d, found.r, measures) / max(found.d.size, 1)
    some = local_errors(found.d, found.r, unit)
    errors = np.concatenate([some, local_errors(peaks[:, 0], peaks[:, 1], unit)])
    if not errors.size:
        return _Local(0.0, 0.0, -1.0, 0, 0.0, math.nan)
    best = int(errors.argmax())
    position = int(np.concatenate([found.at, peaks[:, 2].astype(np.intp)])[best])
    error = float(errors[best]) if errors[best] > 0.0 else -1.0
    return _Local(*_quantiles(some), error, position, violations, math.nan)


def _quantiles(errors: Floats) -> tuple[float, float]:
    """p99 and p99.9: the smallest errors that so large a share does not exceed."""
    if not errors.size:
        return 0.0, 0.0
    first, second = (math.ceil(share * errors.size) - 1 for share in (P99, P999))
    largest = np.sort(np.partition(errors, first)[first:])
    return float(largest[0]), float(largest[second - first])


def _metrics(
    pair: Pair,
    tensors: tuple[Array, Array],
    sums: Sums,
    scale: float | None,
    measures: _Measures,
    local: _Local,
) -> Metrics:
    absolute = scale is not None and sums.mean < scale
    rel_l2 = ratio(math.sqrt(sums.dd), math.sqrt(sums.rr))
    return Metrics(
        size=tensors[0].size,
        finite=sums.finite,
        mean_abs=sums.mean,
        mre=_mre(sums, scale if absolute else None),
        absolute=absolute,
        rel_l2=rel_l2,
        snr_db=decibels(rel_l2),
        p99=local.p99,
        p999=local.p999,
        worst=_worst(pair, tensors, local),
        worst_row=None,
        local_row=None,
        worst_channel=None,
        violations=local.violations,
        atol=measures.atol,
        rtol=measures.rtol,
        elementwise_mean=local.elementwise_mean,
        non_finite=sums.odd.found(pair.layout),
    )


def _slice_parts(pair: Pair, slices: Slices, measures: _Measures, scale: float | None) -> dict[str, Any]:
    """The worst row, channel and slices; the sums that tell them are not kept for the second pass."""
    return {
        "worst_row": slices.worst(pair.layout.batch_axis, 0.0),
        "local_row": slices.worst(pair.layout.batch_axis, measures.unit),
        "worst_channel": slices.worst(pair.layout.channel_axis, 0.0),
        "slices": tuple(slices.judged(axis, scale or 0.0) for axis in slices.axes),
    }


def _row_parts(sums: Sums, measures: _Measures) -> dict[str, Any]:
    rows = sums.rows
    if rows is None:
        return {}
    return {"worst_row": rows.worst(0.0), "local_row": rows.worst(measures.unit * rows.elements)}


def _worst(pair: Pair, tensors: tuple[Array, Array], local: _Local) -> Element | None:
    if local.error < 0.0:
        return None
    index = pair.layout.index(local.position)
    return Element(index, float(tensors[0][index]), float(tensors[1][index]), local.error)


def _mre(sums: Sums, scale: float | None) -> float:
    if not sums.finite:
        return math.nan
    return ratio(sums.d, sums.r if scale is None else scale * sums.finite)
