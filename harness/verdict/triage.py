"""From comparisons to a verdict: which of them, and what to do next.

| quality | consistency | verdict           | what follows                                                 |
|---------|-------------|-------------------|--------------------------------------------------------------|
| pass    | pass        | pass              |                                                              |
| pass    | fail        | pass, a warning   | more error than the precision explains                       |
| fail    | pass        | precision-limited | search the layers that must stay FP32                        |
| fail    | fail        | engine-suspect    | not precision: minimise and bundle a reproduction            |

Before that the floor is asked, at every precision.  What the reference's own error explains is no failure,
but a warning; where that error is above the limit itself, the verdict is reference-limited.  An engine's own
error never excuses it.

At FP32 and TF32 there is nothing to search.  With TF32 off a failure is an engine bug.  With TF32 on, the
same engine without TF32 tells: if that passes, TF32 is the cause; if it fails as well, TF32 is not.

Where outputs differ in their verdicts, the worst of them in the order of blame is that of all (`records`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal

from harness.comparison.explain import apart, problems, slice_words
from harness.comparison.result import Comparison, OutputsComparison
from harness.precision import Precision
from harness.records import severity
from harness.verdict.floors import OwnError

Outcome = Literal["pass", "unverified", "precision-limited", "engine-suspect", "reference-limited"]

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
LIMITED = (
    "the reference's own error in output '{}', mre {}, is above the limit {}: no engine can be told "
    "right from wrong there; use data like those the model is for, set outputs.{}.scale below which errors "
    "are absolute, {}or allow more: precision.{}.tolerance"
)
EXACT = "export the model in float64, whose outputs are exact, "
CLOSE = ", and more than half of the limit {:.1e}: real kernels, which this only emulates, may exceed it"
THIN = (
    "output '{}': slice {}, all of it by {:.1e}: whether that matters a task metric says, "
    "with the reference's own answers as labels"
)
TF32_UNPROVEN = "the engine computes in TF32, which alone costs about 1e-3: build without it to tell"


NOTHING_KNOWN: Mapping[str, OwnError] = MappingProxyType({})


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
    caveats: tuple[str, ...] = ()


def verdict_of(
    found: Comparison | OutputsComparison,
    *,
    tf32: bool = False,
    without_tf32: Comparison | OutputsComparison | None = None,
    split: Split | None = None,
    emulated: bool = False,
    own: Mapping[str, OwnError] = NOTHING_KNOWN,
) -> Triage:
    """The verdict on one output or on all outputs of a case.

    `tf32`: the engine computes in TF32.  `without_tf32`: the same engine rebuilt without it.  `emulated`: the
    engine is the emulation, which says less of real kernels the nearer it comes to the limit.  `own`: the
    reference's own error in outputs that fail.
    """
    warnings = _warnings(found, tf32 and without_tf32 is None, emulated)
    if found.quality:
        compared = not isinstance(found, OutputsComparison) or bool(found.comparisons)
        return Triage("pass" if compared else "unverified", warnings, split=split)
    explained = [one for one in _each(found) if one.name in own and own[one.name].explains]
    warnings += tuple(text for one in explained for text in _forgiven(one, own[one.name]))
    blamed = [_limited(one, own[one.name]) for one in explained if own[one.name].beyond]
    if len(explained) < len(_failed(found)) or (isinstance(found, OutputsComparison) and found.faults):
        blamed.append(_failure(found, explained, tf32, without_tf32))
    if not blamed:
        return Triage("pass", warnings, split=split)
    blamed.sort(key=lambda one: severity(one[0]), reverse=True)
    advice = "; ".join(dict.fromkeys(text for _, text in blamed))
    return Triage(blamed[0][0], warnings, advice, split)


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


def _limited(one: Comparison, own: OwnError) -> tuple[Outcome, str]:
    size, most = apart(own.mre, one.allowed.unequal if one.equality is not None else one.allowed.mre)
    exact = EXACT if one.precision not in (Precision.FP32, Precision.TF32) else ""
    return "reference-limited", LIMITED.format(one.name, size, most, one.name, exact, one.precision)


def _forgiven(one: Comparison, own: OwnError) -> list[str]:
    """What is no failure because the reference's own error explains it, in words."""
    if own.beyond:
        return []
    first, more = problems(one)[0], len(one.faults) - 1
    others = f" and {more} more" if more else ""
    return [
        f"output '{one.name}': {first}{others}: explained by the reference's own error, mre {own.mre:.1e}"
    ]


def _failure(
    found: Comparison | OutputsComparison,
    explained: Sequence[Comparison],
    tf32: bool,
    without: Comparison | OutputsComparison | None,
) -> tuple[Outcome, str]:
    if found.precision in (Precision.FP32, Precision.TF32):
        return _fp32_failure(found, tf32, without)
    structure = isinstance(found, OutputsComparison) and bool(found.faults)
    if not structure and all(one.consistency for one in _each(found) if one not in explained):
        return "precision-limited", SEARCH.format(found.precision)
    return "engine-suspect", SUSPECT


def _fp32_failure(
    found: Comparison | OutputsComparison, tf32: bool, without: Comparison | OutputsComparison | None
) -> tuple[Outcome, str]:
    if tf32 and without is not None and without.quality:
        cause = TF32_CAUSE if found.precision is Precision.FP32 else TF32_TOO_COARSE
        return "precision-limited", cause.format(without.mre)
    if tf32 and without is None:
        return "engine-suspect", TF32_UNPROVEN
    return "engine-suspect", ENGINE_BUG


def _failed(found: Comparison | OutputsComparison) -> tuple[Comparison, ...]:
    return tuple(one for one in _each(found) if not one.quality)


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
        size, expected = apart(one.mre, one.allowed.expected)
        usual = f"above the usual {expected} of {one.precision}"
        close = CLOSE.format(one.allowed.mre) if emulated and one.close else ""
        warnings.append(f"output '{one.name}': mre {size} is {usual}{close}")
    if one.thin:
        warnings.append(THIN.format(one.name, slice_words(one.thin), one.mre))
    known = one.emulation is not None or one.emulation_mre is not None
    if known and one.quality and not one.consistency:
        size, most = apart(one.mre, one.explained_mre)
        warnings.append(f"output '{one.name}': mre {size}, but {one.precision} explains at most {most}")
    return warnings
