"""`compare`, `assert_close` and `explain`: arrays held against arrays, and what was found in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from harness.api.sources import terms_of
from harness.comparison import compare as comparing
from harness.comparison.explain import explain as explain_comparison
from harness.comparison.result import Comparison, OutputsComparison
from harness.precision import Precision, Tolerance

if TYPE_CHECKING:
    from harness.api.report import Report
    from harness.layers.result import Layers
    from harness.verdict.validate import Answer

Arrays: TypeAlias = "Mapping[str, ArrayLike]"


@overload
def compare(
    actual: Arrays,
    expected: Arrays,
    tolerance: Tolerance | float | None = ...,
    *,
    precision: Precision | str = ...,
) -> OutputsComparison: ...
@overload
def compare(
    actual: ArrayLike,
    expected: ArrayLike,
    tolerance: Tolerance | float | None = ...,
    *,
    precision: Precision | str = ...,
) -> Comparison: ...
def compare(
    actual: Any,
    expected: Any,
    tolerance: Tolerance | float | None = None,
    *,
    precision: Precision | str = "fp16",
) -> Comparison | OutputsComparison:
    """What two arrays, or two sets of arrays by name, differ in: `.quality`, `.mre`, `.faults`, `.metrics`.

    `actual` is held against `expected`, of a float, integer or bool dtype; floats may differ in width.  The
    first axis counts rows, which are judged by themselves too.  `tolerance`: the largest mean relative error
    `sum|a - e| / sum|e|`, or a Tolerance (default: the table's for `precision`).  It returns and never
    raises on a mismatch; `explain` puts it into words.

    Raises DataError for complex, text and object arrays.

    >>> import harness
    >>> found = harness.compare([1.0, 2.0], [1.0, 2.001], 1e-3)
    >>> found.quality, round(found.mre, 5)
    (True, 0.00033)
    """
    terms = terms_of(precision, tolerance)
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        ours, theirs = ({n: np.asanyarray(a) for n, a in one.items()} for one in (actual, expected))
        return comparing.compare_outputs(ours, theirs, terms)
    ours, theirs = np.asanyarray(actual), np.asanyarray(expected)
    return comparing.compare(ours, theirs, terms.tolerance, precision=terms.precision)


def assert_close(
    actual: Any,
    expected: Any,
    tolerance: Tolerance | float | None = None,
    *,
    precision: Precision | str = "fp16",
    err_msg: str = "",
) -> None:
    """Raise AssertionError, with what, where, got and allowed, unless `compare` finds quality.

    Takes what `compare` takes, and is used as `numpy.testing.assert_allclose` is; `err_msg` comes first.

    >>> import harness
    >>> harness.assert_close([1.0, 2.0], [1.0, 2.001], 1e-3)
    >>> harness.assert_close([1.0, 2.0], [1.0, 2.5], err_msg="logits")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: logits: mre 1.4e-01 > 5.0e-03...
    """
    __tracebackhide__ = True
    found = compare(actual, expected, tolerance, precision=precision)
    if not found.quality:
        raise AssertionError(explain_comparison(found, err_msg))


def explain(
    found: Report | Comparison | OutputsComparison | Layers | Sequence[Answer],
    *,
    label: str = "",
    reproduce: str = "",
) -> str:
    """What was found, in words: what, where, got, allowed, context, then the command `reproduce`, if given.

    Takes what `validate`, `compare`, `compare_layers` and `answers` return; `label` names what was looked at.

    >>> import harness
    >>> print(harness.explain(harness.compare([1.0, 2.0], [1.0, 2.5]), label="logits").splitlines()[1])
      worst at (1,): got 2, expected 2.5, local error 2.0e-01
    """
    from harness.layers.result import Layers

    if isinstance(found, (Comparison, OutputsComparison)):
        return explain_comparison(found, label, reproduce=reproduce)
    if isinstance(found, Layers):
        from harness.layers.explain import explain as explain_layers

        return explain_layers(found, label, reproduce=reproduce)
    if isinstance(found, Sequence):
        return _explain_answers(found, label, reproduce)
    return found.explain()


def _explain_answers(found: Sequence[Answer], label: str, reproduce: str) -> str:
    from harness.verdict.validate import explain as explain_answers
    from harness.verdict.validate import worst

    if all(answer.triage.verdict == "pass" for answer in found):
        most = f", mre at most {worst(found).found.mre:.1e}" if found else ""
        return f"{label}: pass; {len(found)} shapes{most}"
    return explain_answers(label, found, reproduce)
