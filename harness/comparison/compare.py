"""Comparison of an engine's outputs with the reference: is it good enough, and does precision explain it.

Structure comes before values: names, iteration counts, shapes, kinds of dtype, positions of NaN and
infinities.  Integers and bools must be equal, but for a fraction that the spec allows.  Floats:

    quality      mre <= limit                                  the tolerance table, or the spec
                 local_row <= max(limit, min(10 limit, 0.5))   one wrong row must not drown in 64 right ones
                 slices <= max(limit, min(10 limit, 0.5))      nor a slice along any axis, by its own size
                 decided top-1 that differ <= 5 %              where floats look like scores
                 max local error < max(limit, 50 limit)        nor one wrong element; 50 limit is cut to 1
                                                               where nothing is quantized: rounding to 16
                                                               bits never costs an element its own size
    consistency  each of these figures <= 4 times the emulation's (for mre: or 4 unit roundoffs); NaN and
                 infinities are consistent where the emulation has some too.  With no emulation, the usual
                 error of the tolerance table stands in for its mre, and where only an mre is known, rows
                 and elements may spread as they may in quality.

A spec may set the bounds of rows, slices and elements by themselves (`tolerance.row` and so on).
They are blunt on purpose: INT8 moves single elements by more than their size, so there one wrong
element is found only when it is off by 50 limits (5 times its size); its slices tell more.

`compare` returns and never raises on a mismatch; `assert_close` raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.comparison.blocks import Array
from harness.comparison.equality import Equality, count_unequal
from harness.comparison.explain import explain
from harness.comparison.measure_error import measure_error
from harness.comparison.metrics import Metrics
from harness.comparison.ranking import Ranking, rank
from harness.comparison.result import Allowed, Comparison, Fault, FaultKind, OutputsComparison
from harness.comparison.value_range import format_of
from harness.errors import DataError
from harness.precision import (
    ELEMENT_CEILING,
    ELEMENT_FACTOR,
    ROW_CEILING,
    ROW_FACTOR,
    SLICE_CEILING,
    SLICE_FACTOR,
    Precision,
    Tolerance,
)
from harness.spec.parts import OutputSpec
from harness.spec.terms import EVERY_NUMBER, Terms

__all__ = ["Comparison", "Fault", "OutputsComparison", "assert_close", "compare", "compare_outputs"]


def compare(
    actual: Array,
    expected: Array,
    tolerance: Tolerance,
    *,
    precision: Precision,
    name: str = "",
    rule: OutputSpec = EVERY_NUMBER,
    batch_axis: int | None = 0,
    emulation: Comparison | None = None,
    emulation_mre: float | None = None,
    brief: bool = False,
) -> Comparison:
    """`actual` against `expected`: arrays of any layout, of a float, integer or bool dtype.

    `emulation` (or its `mre` alone) is what the emulation of the same lowered model shows on this output.
    `brief` estimates or leaves out what is only told beside the metrics (see `measure_error`).
    Raises DataError for complex, string and object tensors.
    """
    actual, expected = np.asanyarray(actual), np.asanyarray(expected)
    kinds = _kind(name, actual.dtype), _kind(name, expected.dtype)
    allowed = bounds(tolerance, precision, rule)
    metrics = equality = ranking = None
    faults = _structure(actual, expected, kinds)
    if faults:
        pass
    elif rule.compare == "exact" or kinds[1] != "float":
        equality = count_unequal(actual, expected)
        faults = _judge_equality(equality, allowed)
    else:
        scale = rule.scale
        brief_in = format_of(precision) if brief else None
        metrics = measure_error(
            actual, expected, rtol=tolerance.limit, scale=scale, batch_axis=batch_axis, brief=brief_in
        )
        ranking = None if brief else rank(actual, expected, tolerance.limit)
        faults = _judge_metrics(metrics, allowed) + _judge_ranking(ranking, allowed)
    shapes, dtypes = (actual.shape, expected.shape), (actual.dtype.name, expected.dtype.name)
    return Comparison(
        name,
        precision,
        tolerance,
        allowed,
        shapes,
        dtypes,
        faults,
        metrics,
        equality,
        ranking,
        emulation,
        emulation_mre,
    )


def assert_close(
    actual: Array,
    expected: Array,
    tolerance: Tolerance,
    *,
    subject: str = "",
    reproduce: str = "",
    **rules: Any,
) -> None:
    """Raise AssertionError with the explanation unless `compare` finds quality; `rules` go to `compare`."""
    __tracebackhide__ = True
    found = compare(actual, expected, tolerance, **rules)
    if not found.quality:
        raise AssertionError(explain(found, subject, reproduce=reproduce))


Iterations = Mapping[str, Array] | Sequence[Mapping[str, Array]]


def compare_outputs(
    actual: Iterations,
    expected: Iterations,
    terms: Terms,
    *,
    batch_axis: int | None = 0,
    emulation: OutputsComparison | None = None,
) -> OutputsComparison:
    """Outputs by name against the reference's: of one run, or a sequence of iterations."""
    ours, theirs = _iterations(actual), _iterations(expected)
    faults: list[Fault] = []
    if len(ours) != len(theirs):
        faults.append(Fault("iterations", len(ours), len(theirs)))
    found: list[Comparison] = []
    known = {c.name: c for c in emulation.comparisons} if emulation else {}
    for step, (got, reference) in enumerate(zip(ours, theirs, strict=False)):
        wanted = {n: a for n, a in reference.items() if terms.rule(n).compare != "ignore"}
        faults += _names(got, wanted, terms.rules)
        for name in (n for n in wanted if n in got):
            label = name if len(theirs) == 1 else f"{name}#{step}"
            one = compare(
                got[name],
                wanted[name],
                terms.tolerance,
                precision=terms.precision,
                name=label,
                rule=terms.rule(name),
                batch_axis=batch_axis,
                emulation=known.get(label),
            )
            found.append(one)
    return OutputsComparison(terms.precision, terms.tolerance, tuple(found), tuple(faults))


def bounds(tolerance: Tolerance, precision: Precision, rule: OutputSpec = EVERY_NUMBER) -> Allowed:
    """What quality allows at a tolerance; the rule is in the module's docstring."""
    limit = tolerance.limit
    row = tolerance.row or max(limit, min(ROW_FACTOR * limit, ROW_CEILING))
    ceiling = math.inf if precision.quantized else ELEMENT_CEILING
    element = tolerance.element or max(limit, min(ELEMENT_FACTOR * limit, ceiling))
    part = tolerance.slice or max(limit, min(SLICE_FACTOR * limit, SLICE_CEILING))
    return Allowed(limit, tolerance.expected, row, element, part, rule.mismatch_fraction, tolerance.top1)


def _iterations(outputs: Iterations) -> Sequence[Mapping[str, Array]]:
    return [outputs] if isinstance(outputs, Mapping) else outputs


def _names(
    got: Mapping[str, Array], wanted: Mapping[str, Array], rules: Mapping[str, OutputSpec]
) -> tuple[Fault, ...]:
    missing = sorted(set(wanted) - set(got))
    ignored = {name for name, rule in rules.items() if rule.compare == "ignore"}
    extra = sorted(set(got) - set(wanted) - ignored)
    return tuple(Fault("missing", name) for name in missing) + tuple(Fault("extra", name) for name in extra)


def _kind(name: str, dtype: np.dtype[Any]) -> str:
    """`float`, `integer` or `bool`; the small types of ml_dtypes are known by name."""
    if dtype.kind == "f" or dtype.name.startswith(("bfloat16", "float8", "float6", "float4")):
        return "float"
    if dtype.kind in "iu" or dtype.name in ("int4", "uint4", "int2", "uint2"):
        return "integer"
    if dtype.kind == "b":
        return "bool"
    raise DataError(f"output '{name}': dtype {dtype.name} cannot be compared: must be float, integer or bool")


def _structure(actual: Array, expected: Array, kinds: tuple[str, str]) -> tuple[Fault, ...]:
    faults = []
    if actual.shape != expected.shape:
        kind: FaultKind = "shape" if actual.size or not expected.size else "empty"
        faults.append(Fault(kind, actual.shape, expected.shape))
    if kinds[0] != kinds[1]:
        faults.append(Fault("kind", actual.dtype.name, expected.dtype.name))
    return tuple(faults)


def _judge_equality(found: Equality, allowed: Allowed) -> tuple[Fault, ...]:
    if found.fraction <= allowed.unequal:
        return ()
    return (Fault("unequal", found.fraction, allowed.unequal, found.index),)


def _judge_metrics(found: Metrics, allowed: Allowed) -> tuple[Fault, ...]:
    faults = [Fault(odd.what, odd.actual, odd.expected, odd.index, odd.count) for odd in found.non_finite]  # type: ignore[arg-type]
    if found.finite and not found.mre <= allowed.mre:
        faults.append(Fault("mre", found.mre, allowed.mre))
    row = found.local_row
    if row is not None and not row.mre <= allowed.row:
        faults.append(Fault("row", row.mre, allowed.row, row.index, row.count, row.axis))
    for one in found.slices:
        if not one.mre <= allowed.slice:
            faults.append(Fault("slice", one.mre, allowed.slice, one.index, one.count, one.axis))
    if found.worst is not None and not found.worst.error < allowed.element:
        faults.append(Fault("element", found.worst.error, allowed.element, found.worst.index))
    return tuple(faults)


def _judge_ranking(found: Ranking | None, allowed: Allowed) -> tuple[Fault, ...]:
    if found is None or found.share <= allowed.top1:
        return ()
    return (Fault("top1", found.share, allowed.top1, found.index, found.decided, found.axis),)
