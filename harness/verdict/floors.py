"""What the reference's own error explains of outputs that fail: the floor decides, slice by slice.

1. Every element that other readings of the reference explain becomes the reference's (`forgive`); what is
   left is compared by the case's own rules.  If it passes then, the reference's own error explains all of it.
2. It is `beyond` where another reading fails as a whole against the reference, by the same rules: no engine
   can be told right from wrong there.  Where only slices or elements of it fail, the rest is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from harness.comparison.compare import Iterations, compare
from harness.comparison.result import Comparison, OutputsComparison
from harness.spec.terms import Terms
from harness.verdict.forgive import forgive, unsettled

TIES = 0.01
"""Share of integers or bools in which readings may differ because of ties."""
WHOLE = frozenset({"mre", "shape", "empty", "nan", "+inf", "-inf"})
"""Faults that concern an output as a whole."""
Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class OwnError:
    """The reference's own error in an output that fails.

    `mre`: the largest of the other readings, for integers and bools the share that differs.  `explains`: all
    that is wrong in the output.  `beyond`: it is above the limit itself.
    """

    mre: float
    explains: bool
    beyond: bool


def own_errors(
    found: OutputsComparison,
    actual: Iterations,
    expected: Iterations,
    readings: Sequence[Iterations],
    terms: Terms,
) -> dict[str, OwnError]:
    """The reference's own error in each output of `found` that fails, by its name there.

    `actual`, `expected` and each of `readings` are what `found` was made of: outputs, or a sequence of them.
    """
    ours, theirs, others = _labelled(actual), _labelled(expected), [_labelled(one) for one in readings]
    return {
        one.name: _own_error(one, ours[one.name], theirs[one.name], known, terms)
        for one in found.failed
        if (known := [other[one.name] for other in others if one.name in other])
    }


def _own_error(
    failed: Comparison, actual: Any, expected: Any, readings: Sequence[NDArray[Any]], terms: Terms
) -> OwnError:
    if unsettled(expected, readings):
        return OwnError(float("inf"), explains=True, beyond=True)
    left = _compared(failed.name, forgive(actual, expected, readings), expected, terms)
    own = [_compared(failed.name, one, expected, terms) for one in readings]
    return OwnError(max(map(_size, own)), left.quality, any(map(_beyond, own)))


def _compared(label: str, actual: Any, expected: Any, terms: Terms) -> Comparison:
    rule = terms.rule(label.partition("#")[0] if label not in terms.rules else label)
    return compare(actual, expected, terms.tolerance, precision=terms.precision, name=label, rule=rule)


def _size(found: Comparison) -> float:
    if found.equality is not None:
        return found.equality.fraction
    return float("inf") if found.mre != found.mre else found.mre


def _beyond(found: Comparison) -> bool:
    if found.equality is not None:
        return found.equality.fraction > max(TIES, found.allowed.unequal)
    return any(fault.kind in WHOLE for fault in found.faults)


def _labelled(outputs: Iterations) -> dict[str, NDArray[Any]]:
    """Arrays by the name that `compare_outputs` gives their comparison."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if len(outputs) == 1:
        return dict(outputs[0])
    return {f"{name}#{step}": array for step, one in enumerate(outputs) for name, array in one.items()}
