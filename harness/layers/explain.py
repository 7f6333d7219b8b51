"""The words of a layer-wise comparison, and its JSON form.  Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.comparison.explain import headline, plain, problems
from harness.comparison.value_range import format_of
from harness.layers.result import Layer, Layers


def explain(found: Layers, subject: str = "", *, context: Sequence[str] = (), reproduce: str = "") -> str:
    """Head, first to diverge, every tensor out of tolerance in graph order, creators, range, context."""
    head = f"{subject} layers: {_count(found)}" if subject else f"layers: {_count(found)}"
    body = [*_firsts(found), *_table(found), *_creators(found), *_range(found), *warnings(found)]
    tail = [f"reproduce: {reproduce}"] if reproduce else []
    return "\n".join([head, *(f"  {line}" for line in (*body, *context, *tail))])


def warnings(found: Layers) -> tuple[str, ...]:
    """What a reader of the figures must know."""
    lines = []
    if found.observed:
        lines.append(
            f"observer effect: instrumenting ({found.instrumentation}) moved the final outputs "
            f"by mre {found.observer_effect:.1e}; the plain engine decides"
        )
    if found.not_offered:
        names = ", ".join(map(repr, found.not_offered[:3]))
        more = f" and {len(found.not_offered) - 3} more" if len(found.not_offered) > 3 else ""
        lines.append(f"{len(found.not_offered)} tensors are not in the engine: {names}{more}")
    if found.oversized:
        names = ", ".join(map(repr, found.oversized[:3]))
        lines.append(f"more than {found.memory_bytes} bytes were needed for {names}")
    return tuple(lines)


def _count(found: Layers) -> str:
    limit = f"mre > {found.tolerance.limit:.1e}"
    total = len(found.layers)
    return f"{len(found.over)} of {total} tensors out of tolerance at {found.precision} ({limit})"


def _firsts(found: Layers) -> list[str]:
    lines = []
    if first := found.first_over:
        error_in = f"inputs at {first.error_in:.1e}"
        lines.append(f"first out of tolerance: {_name(first)}: {_fault(first)}, {error_in}")
    if odd := found.first_non_finite:
        lines.append(f"first not finite: {_name(odd)}: {_fault(odd)}")
    return lines


def _table(found: Layers) -> list[str]:
    if not found.over:
        return []
    return ["out of tolerance, in graph order:", *(f"  {_row(layer)}" for layer in found.over)]


def _row(layer: Layer) -> str:
    figure = headline(layer.comparison) if layer.finite else _non_finite(layer)
    return f"{_name(layer)}: {figure}, amplification {layer.amplification:.2g}"


def _non_finite(layer: Layer) -> str:
    metrics = layer.comparison.metrics
    if metrics is None:
        return _fault(layer)
    kinds = ", ".join(f"{odd.count} {odd.what}" for odd in metrics.non_finite)
    return f"not finite: {kinds} of {metrics.size}"


def _creators(found: Layers) -> list[str]:
    made = found.creators()
    if not made:
        return []
    lines = [
        f"  {_name(layer)}: {layer.error_in:.1e} in, {layer.error:.1e} out, "
        f"amplification {layer.amplification:.2g}"
        for layer in made
    ]
    return ["error is created most by:", *lines]


def _range(found: Layers) -> list[str]:
    largest = format_of(found.precision).largest
    return [
        f"out of range: {_name(layer)}: largest |reference| {layer.values.largest:.3g} > {largest:.5g}"
        for layer in found.beyond_range
        if layer.values is not None
    ]


def _name(layer: Layer) -> str:
    return f"'{layer.place.tensor}' ({layer.place.op_type} '{layer.place.node}')"


def _fault(layer: Layer) -> str:
    said = problems(layer.comparison)
    return said[0] if said else headline(layer.comparison)


def to_json(found: Layers) -> dict[str, Any]:
    """Plain JSON data: how tensors were had, and `layers`, one flat row for each in graph order."""
    first, odd = found.first_over, found.first_non_finite
    data = {
        "precision": str(found.precision),
        "limit": found.tolerance.limit,
        "expected": found.tolerance.expected,
        "instrumentation": found.instrumentation,
        "groups": found.groups,
        "memory_bytes": found.memory_bytes,
        "not_offered": list(found.not_offered),
        "oversized": list(found.oversized),
        "observer": dict(found.observer),
        "observer_effect": found.observer_effect,
        "first_over": first.place.tensor if first else None,
        "first_non_finite": odd.place.tensor if odd else None,
        "creators": [layer.place.tensor for layer in found.creators()],
        "layers": [row_of(layer) for layer in found.layers],
    }
    plain_data: dict[str, Any] = plain(data)
    return plain_data


def row_of(layer: Layer) -> dict[str, Any]:
    """One tensor as a flat row."""
    metrics, values = layer.comparison.metrics, layer.values
    row: dict[str, Any] = {
        "tensor": layer.place.tensor,
        "node": layer.place.node,
        "op_type": layer.place.op_type,
        "shape": list(layer.comparison.shapes[1]),
        "dtype": layer.comparison.dtypes[0],
        "error": layer.error,
        "error_in": layer.error_in,
        "amplification": layer.amplification,
        "created": layer.created,
        "over": layer.over,
        "finite": layer.finite,
        "problems": list(problems(layer.comparison)),
    }
    if metrics is not None:
        row |= {"mre": metrics.mre, "rel_l2": metrics.rel_l2, "snr_db": metrics.snr_db}
        row |= {
            "p99": metrics.p99,
            "p999": metrics.p999,
            "max": metrics.max,
            "violations": metrics.violations,
        }
        row["worst"] = vars(metrics.worst) if metrics.worst else None
        row["worst_row"] = vars(metrics.worst_row) if metrics.worst_row else None
    if values is not None:
        row |= {"largest": values.largest, "subnormal": values.subnormal}
    return row
