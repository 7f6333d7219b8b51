"""The error of lowered models as the suite judges it: the mean, but the worst rows and elements too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.runner import Opener, Tensors
from harness.comparison.emulated_error import Compared, EmulatedError
from harness.comparison.result import OutputsComparison
from harness.comparison.severity import severity

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
