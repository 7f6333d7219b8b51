"""The error that lowering brings, measured on samples: lowered models run beside the FP32 reference.

Calibration's `auto` and the FP32 search ask the same question of many lowered models; the reference outputs
are computed once and kept on disk.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import onnx_ir as ir

from harness.backends.runner import Opener, Tensors
from harness.data.samples import Spool
from harness.errors import DataError, ModelError
from harness.precision import Precision


def open_cpu(model: ir.Model, outputs: Sequence[str], level: str = "none") -> Any:
    """An engine on ONNX Runtime's CPU provider at an optimisation level; an `Opener`."""
    from harness.backends.onnxruntime.backend import SessionSettings, open_model

    return open_model(model, outputs, settings=SessionSettings(level=level))


def emulation_opener(precision: Precision) -> Opener:
    """Opens emulations of `precision` as verdicts do."""
    from harness.backends.onnxruntime.backend import emulation_level

    return partial(open_cpu, level=emulation_level(precision))


@dataclass(frozen=True)
class Compared:
    """What is compared: the named outputs, by default all, in cases of which the worst counts.

    `cases` says of each sample which case it belongs to; by default all are one.  `scales`: the least mean
    magnitude by output name that errors are relative to.
    """

    outputs: tuple[str, ...] | None = None
    cases: tuple[int, ...] | None = None
    scales: Mapping[str, float] = field(default_factory=dict)


class EmulatedError:
    """Holds the FP32 outputs of `feeds`, which must iterate afresh each time; a context manager.

    `reference` and `emulation` open the FP32 model and lowered ones.
    Raises DataError without a sample, ModelError where the reference itself is not finite.
    """

    def __init__(
        self,
        normalised: ir.Model,
        feeds: Iterable[Tensors],
        reference: Opener,
        emulation: Opener,
        compared: Compared | None = None,
    ) -> None:
        self._feeds, self._opener, self._compared = feeds, emulation, compared or Compared()
        every = tuple(str(value.name) for value in normalised.graph.outputs)
        self.names = every if self._compared.outputs is None else self._compared.outputs
        self._reference = Spool()
        with reference(normalised, self.names) as runner:
            for feed in feeds:
                outputs = runner.run(feed)
                _require_values(outputs)
                self._reference.append(outputs)
        if len(self._reference) == 0:
            raise DataError("no samples to compare on; at least one is needed")

    def of(self, model: ir.Model) -> float:
        """The largest `mre` of any output in any case; infinite where an output is not finite."""
        cases = repeat(0) if self._compared.cases is None else self._compared.cases
        sums: dict[tuple[int, str], _Sums] = defaultdict(_Sums)
        with self._opener(model, self.names) as runner:
            for case, feed, expected in zip(cases, self._feeds, self._reference, strict=False):
                actual = runner.run(feed)
                for name in self.names:
                    sums[case, name].add(actual[name], expected[name])
        scales = self._compared.scales
        return max((total.mre(scales.get(name, 0.0)) for (_, name), total in sums.items()), default=0.0)

    def __enter__(self) -> EmulatedError:
        return self

    def __exit__(self, *_: object) -> None:
        self._reference.__exit__()


class _Sums:
    """Running sums of |actual - expected| and |expected|, in float64; integers count unequal elements."""

    def __init__(self) -> None:
        self.difference = self.magnitude = 0.0
        self.count = 0

    def add(self, actual: Any, expected: Any) -> None:
        """Add one output of one sample; NaN and infinities must be where the reference has them."""
        self.count += expected.size
        if actual.shape != expected.shape:
            self.difference = np.inf
        elif _is_float(expected):
            wide, got = expected.astype(np.float64), actual.astype(np.float64)
            known = np.isfinite(wide)
            if not np.array_equal(got[~known], wide[~known], equal_nan=True):
                self.difference = np.inf
            with np.errstate(invalid="ignore", over="ignore"):
                self.difference += float(np.abs(got[known] - wide[known]).sum())
            self.magnitude += float(np.abs(wide[known]).sum())
        else:
            self.difference += float(np.count_nonzero(actual != expected))
            self.magnitude += expected.size

    def mre(self, scale: float) -> float:
        """Their ratio, with `scale` as the least mean magnitude; an all-zero reference takes no error."""
        magnitude = max(self.magnitude, scale * self.count)
        if not np.isfinite(self.difference):
            return float("inf")
        if magnitude == 0.0:
            return 0.0 if self.difference == 0.0 else float("inf")
        return self.difference / magnitude


def _is_float(array: Any) -> bool:
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")


def _require_values(outputs: Tensors) -> None:
    for name, array in outputs.items():
        if array.size and _is_float(array) and not np.isfinite(array.astype(np.float32)).any():
            raise ModelError(f"output {name!r} of the FP32 reference is not finite: nothing to compare with")
