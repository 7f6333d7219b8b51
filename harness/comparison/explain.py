"""The words of a comparison: what, where, got, allowed, context, then the command that reproduces it.

Nothing is decided here; `compare` decides and formats nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.comparison.metrics import Group, Metrics
from harness.comparison.result import Comparison, Fault, OutputsComparison


def explain(
    found: Comparison | OutputsComparison,
    subject: str = "",
    *,
    context: Sequence[str] = (),
    reproduce: str = "",
) -> str:
    """What, where, got, allowed, context, and the command that reproduces it; several lines."""
    if isinstance(found, Comparison):
        return _comparison(found, subject, context, reproduce)
    return _outputs(found, subject, context, reproduce)


def problems(found: Comparison | OutputsComparison) -> tuple[str, ...]:
    """Each fault, of structure and of every output, as a sentence."""
    if isinstance(found, Comparison):
        return tuple(fault(found, one) for one in found.faults)
    own = tuple(fault(None, one) for one in found.faults)
    return own + tuple(f"output '{c.name}': {text}" for c in found.failed for text in problems(c))


def fault(comparison: Comparison | None, found: Fault) -> str:
    """One fault as a sentence without its subject."""
    if found.kind in ("nan", "+inf", "-inf"):
        return _non_finite(found)
    if found.kind == "unequal" and comparison is not None:
        return _unequal(comparison, found)
    if found.kind == "top1" and comparison is not None and comparison.ranking is not None:
        return f"{_sentence(found)}: got {comparison.ranking.actual}, expected {comparison.ranking.expected}"
    return _sentence(found)


_SENTENCES: Mapping[str, str] = {
    "missing": "output {got} is missing",
    "extra": "output {got} is not in the reference",
    "iterations": "{got} iterations, but the reference has {allowed}",
    "shape": "shape {got}, but should be {allowed}",
    "empty": "is empty, shape {got}, but should be {allowed}",
    "kind": "dtype {got}, but should be the kind of {allowed}",
    "unequal": "a share of {got} differs > {allowed}",
    "mre": "mre {got} > {allowed}",
    "row": "row [{index}] of {of} is off by {share} of its size, {most} allowed",
    "slice": "slice [{index}] of {of} along axis {axis} is off by {share} of its own size, {most} allowed",
    "top1": "{share} of {of} lines choose another class, {most} allowed; first at {index}",
    "element": "the element at {index} is off by {share} of its size, {most} allowed",
}


def _sentence(found: Fault) -> str:
    got, allowed = apart(found.got, found.allowed)
    share, most = _shares(found.got, found.allowed)
    text, where = _SENTENCES[found.kind], {"index": found.index, "of": found.of, "axis": found.axis}
    return text.format(got=got, allowed=allowed, share=share, most=most, **where)


def _non_finite(found: Fault) -> str:
    name = {"nan": "NaN"}.get(found.kind, found.kind.replace("inf", "Inf"))
    places = "1 element is" if found.of == 1 else f"{found.of} elements are"
    where = f"first at {found.index}: got {found.got:.6g}, expected {found.allowed:.6g}"
    return f"{places} {name} on one side only, {where}"


def _unequal(comparison: Comparison, found: Fault) -> str:
    equality = comparison.equality
    if equality is None:
        return _sentence(found)
    allowed = f"{found.allowed:.2%} allowed" if found.allowed else "none may"
    share = f"{equality.unequal} of {equality.size} elements differ ({equality.fraction:.2%}), {allowed}"
    where = f"first at {equality.index}"
    return f"{share}; {where}: got {equality.actual}, expected {equality.expected}"


def _comparison(found: Comparison, subject: str, context: Sequence[str], reproduce: str) -> str:
    """The whole text for one output, pass or fail; several lines."""
    return _lines(_head(found, subject), _details(found), context, reproduce)


def _outputs(found: OutputsComparison, subject: str, context: Sequence[str], reproduce: str) -> str:
    """One text for all outputs: those that fail, in full, then the others on a line."""
    failed = found.failed
    if not found.faults and len(found.comparisons) == 1:
        return _comparison(found.comparisons[0], subject, context, reproduce)
    body = [fault(None, one) for one in found.faults]
    for one in failed:
        body += [_head(one, ""), *("  " + line for line in _details(one))]
    passed = [f"'{c.name}' {headline(c)}" for c in found.comparisons if c.quality]
    body += [f"within tolerance: {', '.join(passed)}"] if passed else []
    return _lines(_summary(found, subject), body, context, reproduce)


def headline(found: Comparison) -> str:
    """The figure that a table shows for one output."""
    if found.metrics is not None:
        return f"{'absolute error' if found.metrics.absolute else 'mre'} {found.metrics.mre:.1e}"
    if found.equality is not None:
        return f"{found.equality.fraction:.2%} differ" if found.equality.unequal else "equal"
    return "not compared"


def _summary(found: OutputsComparison, subject: str) -> str:
    count, failed = len(found.comparisons), len(found.failed)
    verb = "fails" if failed == 1 else "fail"
    text = f"{failed} of {count} outputs {verb}" if failed else f"all {count} outputs are within tolerance"
    if found.faults:
        text = "the sets of outputs differ" + (f"; {text}" if failed else "")
    return f"{subject}: {text}" if subject else text


def _head(found: Comparison, subject: str) -> str:
    named = f"output '{found.name}'" if found.name else ""
    what = " ".join(part for part in (subject, named) if part) or "arrays"
    first = problems(found)[0] if found.faults else f"{headline(found)}, within tolerance"
    return f"{what}: {first}"


def _details(found: Comparison) -> list[str]:
    lines = [f"also: {text}" for text in problems(found)[1:]]
    if found.metrics is not None:
        lines += [*_worst(found.metrics), _allowance(found), _explanation(found)]
        lines += [_spread(found.metrics), *_rows(found.metrics)] if found.metrics.finite else []
    return lines


def _worst(metrics: Metrics) -> list[str]:
    worst = metrics.worst
    if worst is None:
        return []
    values = f"got {worst.actual:.6g}, expected {worst.expected:.6g}"
    return [f"worst at {worst.index}: {values}, local error {worst.error:.1e}"]


def _allowance(found: Comparison) -> str:
    allowed = found.allowed
    text = f"allowed at {found.precision}: mre {allowed.mre:.1e} (usual {allowed.expected:.1e})"
    if found.metrics is not None and found.metrics.absolute:
        text += ", judged absolutely: mean |reference| is below the declared scale"
    parts = (("a row", allowed.row), ("a slice", allowed.slice), ("an element", allowed.element))
    return ", ".join([text, *(f"{name} {_share(most)}" for name, most in parts)])


def _explanation(found: Comparison) -> str:
    known = found.emulation.mre if found.emulation is not None else found.emulation_mre
    source = "the usual error, no emulation was run" if known is None else f"the emulation's mre {known:.1e}"
    word = "consistent" if found.consistency else "not consistent"
    return f"this precision explains mre up to {found.explained_mre:.1e} (from {source}): {word}"


def _spread(metrics: Metrics) -> str:
    return (
        f"local error p99 {metrics.p99:.1e}, p99.9 {metrics.p999:.1e}; SNR {metrics.snr_db:.1f} dB; "
        f"{metrics.violations:.2%} of {metrics.size} elements beyond "
        f"{metrics.atol:.1e} + {metrics.rtol:.1e} |r|"
    )


def _rows(metrics: Metrics) -> list[str]:
    named = (("row", metrics.worst_row), ("channel", metrics.worst_channel))
    found = [_group(name, group) for name, group in named if group is not None]
    found += [f"slice {slice_words(group)}" for group in [metrics.worst_slice] if group is not None]
    return ["; ".join(found)] if found else []


def _group(name: str, group: Group) -> str:
    return f"worst {name} [{group.index}] of {group.count} (axis {group.axis}): mre {group.mre:.1e}"


def slice_words(group: Group) -> str:
    """`[5] of 84 along axis 1 is off by 0.27 of its own size`."""
    where = f"[{group.index}] of {group.count} along axis {group.axis}"
    return f"{where} is off by {_share(group.mre)} of its own size"


def _lines(head: str, body: Sequence[str], context: Sequence[str], reproduce: str) -> str:
    tail = [f"reproduce: {reproduce}"] if reproduce else []
    return "\n".join([head, *(f"  {line}" for line in (*body, *context, *tail))])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1e}"
    return repr(value) if isinstance(value, str) else str(value)


def _share(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def apart(got: Any, allowed: Any) -> tuple[str, str]:
    """A figure and its bound with as many digits as tell them apart: `5.004e-03 > 5.000e-03`."""
    return _told_apart(got, allowed, [f"{{:.{digits}e}}" for digits in range(1, 17)], _value)


def _shares(got: Any, allowed: Any) -> tuple[str, str]:
    return _told_apart(got, allowed, [f"{{:.{digits}g}}" for digits in range(2, 18)], _share)


def _told_apart(
    got: Any, allowed: Any, forms: Sequence[str], plainly: Callable[[Any], str]
) -> tuple[str, str]:
    if not (isinstance(got, float) and isinstance(allowed, float)) or got == allowed:
        return plainly(got), plainly(allowed)
    pairs = ((form.format(got), form.format(allowed)) for form in forms)
    return next((pair for pair in pairs if float(pair[0]) != float(pair[1])), (repr(got), repr(allowed)))


def to_json(found: Comparison | OutputsComparison) -> dict[str, Any]:
    """Plain JSON data; NaN and infinities as strings."""
    return _one_to_json(found) if isinstance(found, Comparison) else _all_to_json(found)


def _one_to_json(found: Comparison) -> dict[str, Any]:
    data = {
        "name": found.name,
        "quality": found.quality,
        "consistency": found.consistency,
        "shape": list(found.shapes[1]),
        "dtypes": list(found.dtypes),
        "allowed": asdict(found.allowed),
        "explained_mre": found.explained_mre,
        "problems": list(problems(found)),
        "metrics": None if found.metrics is None else {**asdict(found.metrics), "max": found.metrics.max},
        "ranking": None if found.ranking is None else asdict(found.ranking),
        "equality": None if found.equality is None else asdict(found.equality),
        "emulation_mre": found.emulation.mre if found.emulation is not None else found.emulation_mre,
    }
    plain_data: dict[str, Any] = plain(data)
    return plain_data


def _all_to_json(found: OutputsComparison) -> dict[str, Any]:
    data = {
        "precision": str(found.precision),
        "tolerance": asdict(found.tolerance),
        "quality": found.quality,
        "consistency": found.consistency,
        "mre": found.mre,
        "problems": list(problems(found)),
        "outputs": [_one_to_json(one) for one in found.comparisons],
    }
    plain_data: dict[str, Any] = plain(data)
    return plain_data


def plain(value: Any) -> Any:
    """`value` with NaN and infinities as strings and tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
