"""From comparisons to a verdict: which of them, and what to do next.

| quality | consistency | verdict           | what follows                                                 |
|---------|-------------|-------------------|--------------------------------------------------------------|
| pass    | pass        | pass              |                                                              |
| pass    | fail        | pass, a warning   | more error than the precision explains                       |
| fail    | pass        | precision-limited | search the layers that must stay FP32                        |
| fail    | fail        | engine-suspect    | not precision: minimise and bundle a reproduction            |

At FP32 and TF32 there is nothing to search.  With TF32 off a failure is an engine bug, unless ONNX Runtime's
own FP32 runs differ as much (then the model, not the engine, is that inexact).  With TF32 on, the same engine
without TF32 tells: if that passes, TF32 is the cause; if it fails as well, TF32 is not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

from harness.comparison.explain import slice_words
from harness.comparison.result import Comparison, OutputsComparison
from harness.precision import Precision

Outcome = Literal["pass", "precision-limited", "engine-suspect"]

SEARCH = "find the layers that must stay FP32: `trt-harness search-fp32 SPEC --precision {}`"
SUSPECT = "more error than the precision explains: `trt-harness bundle CASE --minimise` reproduces it"
ENGINE_BUG = (
    "FP32 with TF32 off is exact to rounding, so this is an engine bug, not precision: "
    "`trt-harness bundle CASE --minimise` reproduces it"
)
TF32_CAUSE = (
    "TF32 is the cause: without it the engine passes, mre {:.1e}; build with tf32 = false, or judge as tf32"
)
TF32_TOO_COARSE = "TF32 is too coarse for this model: the FP32 engine passes, mre {:.1e}; use fp32"
INEXACT = (
    "ONNX Runtime's own FP32 runs differ as much, mre {:.1e}: the model is that sensitive, not the engine; "
    "use data like those it is for, or allow more in the spec: precision.{}.tolerance"
)
CLOSE = ", and more than half of the limit {:.1e}: real kernels, which this only emulates, may exceed it"
THIN = (
    "output '{}': slice {}, all of it by {:.1e}: whether that matters a task metric says, "
    "with the reference's own answers as labels"
)
TF32_UNPROVEN = "the engine computes in TF32, which alone costs about 1e-3: build without it to tell"


@dataclass(frozen=True)
class Split:
    """Where the error of an engine comes from, each part an `mre`; None where it was not measured.

    `quantization` and `rounding`: the emulation against the reference (rounding beyond the Q/DQ-only
    emulation, where the plan does both).  `runtime`: the engine against the emulation.
    """

    total: float
    quantization: float | None = None
    rounding: float | None = None
    runtime: float | None = None

    def to_json(self) -> dict[str, float | str | None]:
        """Plain data: the parts, and which is the largest."""
        return {**asdict(self), "main": self.main}

    @property
    def main(self) -> str | None:
        """The largest part; None where nothing was measured.  A part that is NaN counts as largest."""
        parts = {"quantization": self.quantization, "rounding": self.rounding, "runtime": self.runtime}
        known = {name: math.inf if math.isnan(v) else v for name, v in parts.items() if v is not None}
        return max(known, key=known.__getitem__) if known else None


@dataclass(frozen=True)
class Triage:
    """The verdict, warnings that do not change it, what to do next, and the split of the error."""

    verdict: Outcome
    warnings: tuple[str, ...] = ()
    advice: str = ""
    split: Split | None = None


def verdict_of(
    found: Comparison | OutputsComparison,
    *,
    tf32: bool = False,
    without_tf32: Comparison | OutputsComparison | None = None,
    split: Split | None = None,
    emulated: bool = False,
) -> Triage:
    """The verdict on one output or on all outputs of a case.

    `tf32`: the engine computes in TF32.  `without_tf32`: the same engine rebuilt without it.  `emulated`: the
    engine is the emulation, which says less of real kernels the nearer it comes to the limit.
    """
    warnings = _warnings(found, tf32 and without_tf32 is None, emulated)
    if found.quality:
        return Triage("pass", warnings, split=split)
    verdict, advice = _failure(found, tf32, without_tf32)
    return Triage(verdict, warnings, advice, split)


def split_error(
    precision: Precision,
    total: float,
    emulation: float | None = None,
    engine_to_emulation: float | None = None,
    quantized_only: float | None = None,
) -> Split:
    """The split of an engine's error from the `mre` of the runs that were made.

    `emulation` against the reference; `engine_to_emulation` between the two; `quantized_only`: under
    `int8+fp16`, the emulation of plain `int8` against the reference.
    """
    runtime = engine_to_emulation
    if emulation is None or not precision.quantized:
        return Split(total, None, emulation, runtime)
    if precision is Precision.INT8_FP16 and quantized_only is not None:
        # In this order `max` keeps a NaN, which is an error of its own and no small one.
        return Split(total, quantized_only, max(emulation - quantized_only, 0.0), runtime)
    return Split(total, emulation, None, runtime)


def _failure(
    found: Comparison | OutputsComparison, tf32: bool, without: Comparison | OutputsComparison | None
) -> tuple[Outcome, str]:
    if found.precision in (Precision.FP32, Precision.TF32):
        return _fp32_failure(found, tf32, without)
    if found.consistency:
        return "precision-limited", SEARCH.format(found.precision)
    return "engine-suspect", SUSPECT


def _fp32_failure(
    found: Comparison | OutputsComparison, tf32: bool, without: Comparison | OutputsComparison | None
) -> tuple[Outcome, str]:
    if tf32 and without is not None and without.quality:
        cause = TF32_CAUSE if found.precision is Precision.FP32 else TF32_TOO_COARSE
        return "precision-limited", cause.format(without.mre)
    floor = _floor(found)
    if found.consistency and floor is not None and floor > found.tolerance.limit:
        return "precision-limited", INEXACT.format(floor, found.precision)
    if tf32 and without is None:
        return "engine-suspect", TF32_UNPROVEN
    return "engine-suspect", ENGINE_BUG


def _floor(found: Comparison | OutputsComparison) -> float | None:
    """The emulation's (at FP32: ONNX Runtime's own) largest error on the outputs that fail."""
    known = [c.emulation.mre if c.emulation else c.emulation_mre for c in _each(found) if not c.quality]
    return max((m for m in known if m is not None), default=None)


def _each(found: Comparison | OutputsComparison) -> tuple[Comparison, ...]:
    return (found,) if isinstance(found, Comparison) else found.comparisons


def _warnings(found: Comparison | OutputsComparison, tf32: bool, emulated: bool) -> tuple[str, ...]:
    warnings = [text for one in _each(found) for text in _warnings_of(one, emulated)]
    if tf32 and found.precision is Precision.FP32:
        warnings.append(TF32_UNPROVEN)
    return tuple(warnings)


def _warnings_of(one: Comparison, emulated: bool) -> list[str]:
    warnings = []
    if one.empty:
        warnings.append(f"output '{one.name}' is empty: nothing was compared")
    if one.unusual:
        usual = f"above the usual {one.allowed.expected:.1e} of {one.precision}"
        close = CLOSE.format(one.allowed.mre) if emulated and one.close else ""
        warnings.append(f"output '{one.name}': mre {one.mre:.1e} is {usual}{close}")
    if one.thin:
        warnings.append(THIN.format(one.name, slice_words(one.thin), one.mre))
    if one.quality and not one.consistency:
        explained = f"{one.precision} explains at most {one.explained_mre:.1e}"
        warnings.append(f"output '{one.name}': mre {one.mre:.1e}, but {explained}")
    return warnings
