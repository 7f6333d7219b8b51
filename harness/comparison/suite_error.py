"""The error of lowered models as the suite judges it: the mean, but the worst rows and elements too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.runner import Opener, Tensors
from harness.comparison.emulated_error import Compared, EmulatedError
from harness.comparison.result import Fault, OutputsComparison

Outputs = Mapping[str, NDArray[Any]]
Judge = Callable[[Sequence[Outputs], Sequence[Outputs], Tensors], OutputsComparison]
"""Compares the outputs of the feeds of one case with the reference's; the last is the first feed."""


class SuiteError(EmulatedError):
    """Like `EmulatedError`, with the suite's own judgement; `judge` compares each case of `compared`."""

    def __init__(
        self,
        normalised: ir.Model,
        feeds: Iterable[Tensors],
        openers: tuple[Opener, Opener],
        compared: Compared,
        judge: Judge,
    ) -> None:
        super().__init__(normalised, feeds, *openers, compared)
        self._judge = judge

    def of(self, model: ir.Model) -> float:
        """The largest `severity` of any case."""
        cases = self._compared.cases or (0,) * len(self._reference)
        samples = zip(cases, self._feeds, self._reference, strict=True)
        worst = 0.0
        with self._opener(model, self.names) as runner:
            for _, members in groupby(samples, key=lambda sample: sample[0]):
                runs = [(runner.run(feed), expected, feed) for _, feed, expected in members]
                actual, expected, feeds = zip(*runs, strict=True)
                found = self._judge(actual, expected, feeds[0])
                worst = max(worst, severity(found))
        return worst


def severity(found: OutputsComparison) -> float:
    """The largest `mre`; where a bound is broken, as many times the limit as that bound is exceeded.

    At most the limit if and only if quality holds; infinite for wrong structure, NaN and infinities.
    """
    limit = found.tolerance.limit
    mres = [one.metrics.mre for one in found.comparisons if one.metrics is not None]
    faults = [*found.faults, *(fault for one in found.comparisons for fault in one.faults)]
    return max([0.0, *mres, *(limit * _excess(fault) for fault in faults)])


def _excess(fault: Fault) -> float:
    """How many times its bound a fault is, more than once."""
    if fault.kind not in ("mre", "row", "slice", "element", "unequal", "top1"):
        return math.inf
    ratio = fault.got / fault.allowed if fault.allowed else math.inf
    return math.inf if math.isnan(ratio) else max(ratio, math.nextafter(1.0, 2.0))
