"""Ranges of activation tensors from calibration samples, computed or taken from the cache."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import onnx_ir as ir

from harness.backends.runner import Opener, Tensors
from harness.calibration.auto import choose, split
from harness.calibration.collect import Collected, Progress, collect
from harness.calibration.histogram import MASK_MAGNITUDE, Histogram
from harness.calibration.methods import range_of
from harness.calibration.model import DEFAULT_MEMORY_BYTES, Calibration, Choice
from harness.comparison.emulated_error import EmulatedError, emulation_opener, open_cpu
from harness.data.samples import Part, describe, rereadable
from harness.errors import CacheError, DataError
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower
from harness.lowering.model import Ranges
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import CalibrationSpec
from harness.storage.cache import JSON, Cache, Entry

ALGORITHM = 1
"""Part of the cache key; raised whenever the same data would give other ranges."""
FILE = "calibration.json"


@dataclass(frozen=True)
class Resources:
    """What calibration may use: memory for fetched tensors, what runs models, whom to tell of progress.

    `opener` runs FP32 models and emulations; by default ONNX Runtime's CPU provider does.
    """

    memory_bytes: int = DEFAULT_MEMORY_BYTES
    opener: Opener | None = None
    progress: Progress | None = None


def calibrate(
    normalised: ir.Model,
    feeds: Iterable[Tensors],
    tensors: Sequence[str],
    spec: CalibrationSpec,
    *,
    plan: PrecisionPlan | None = None,
    resources: Resources | None = None,
) -> Calibration:
    """Ranges of `tensors` (floating, of the main graph) over the first `spec.samples` of `feeds`.

    `plan` is the plan that `auto` judges by, all INT8 by default.  A tensor that is zero everywhere has the
    range 0.  Raises DataError without a sample, ModelError where `auto` finds the reference not finite.
    """
    resources = resources or Resources()
    with rereadable(feeds) as samples:
        if spec.method == "auto":
            return _auto(normalised, samples, tensors, spec, plan or PrecisionPlan(Precision.INT8), resources)
        found = _collect(normalised, Part(samples, 0, spec.samples), tensors, resources)
    percentile = spec.percentile if spec.method == "percentile" else None
    ranges = {name: range_of(h, spec.method, spec.percentile) for name, h in found.histograms.items()}
    name = str(Choice(spec.method, percentile, 0.0))
    return Calibration(ranges, name, found.samples, warnings=_warnings(found.histograms))


def _auto(
    normalised: ir.Model,
    feeds: Iterable[Tensors],
    tensors: Sequence[str],
    spec: CalibrationSpec,
    plan: PrecisionPlan,
    resources: Resources,
) -> Calibration:
    samples = sum(1 for _ in Part(feeds, 0, spec.samples))
    if samples == 0:
        raise DataError("calibration: no samples; at least one is needed")
    setting, judging, warnings = split(feeds, samples)
    found = _collect(normalised, setting, tensors, resources)
    emulation = resources.opener or emulation_opener(plan.precision)
    with EmulatedError(normalised, judging, resources.opener or open_cpu, emulation) as error:
        ranges, choices = choose(
            found.histograms, spec.percentile, lambda ranges: error.of(_emulated(normalised, plan, ranges))
        )
    return Calibration(
        ranges, str(choices[0]), found.samples, choices, (*warnings, *_warnings(found.histograms))
    )


def _emulated(normalised: ir.Model, plan: PrecisionPlan, ranges: Ranges) -> ir.Model:
    return emulate(lower(normalised, plan, ranges))


def _collect(
    normalised: ir.Model, feeds: Iterable[Tensors], tensors: Sequence[str], use: Resources
) -> Collected:
    opener = use.opener or partial(open_cpu, level="basic")
    return collect(normalised, feeds, tensors, opener, use.memory_bytes, use.progress)


def _warnings(histograms: Mapping[str, Histogram]) -> tuple[str, ...]:
    """What was left out or cannot be ranged, tensor by tensor."""
    found = []
    for name, histogram in histograms.items():
        if histogram.masked:
            found.append(
                f"{name!r}: {histogram.masked} values infinite or beyond {MASK_MAGNITUDE:g} left out (masks?)"
            )
        if histogram.not_numbers:
            found.append(f"{name!r}: {histogram.not_numbers} NaN left out")
        if histogram.maximum == 0.0:
            found.append(f"{name!r}: every value is zero; range 0, scale 1")
    return tuple(found)


def calibrate_cached(
    normalised: ir.Model,
    feeds: Iterable[Tensors],
    tensors: Sequence[str],
    spec: CalibrationSpec,
    *,
    cache: Cache,
    model_digest: str,
    plan: PrecisionPlan | None = None,
    resources: Resources | None = None,
    label: str = "",
) -> Calibration:
    """`calibrate`, kept under the digests of model, samples, tensors and options.

    `reason` of the result says whether it was a hit, or why it was computed again.
    """
    with rereadable(feeds) as samples:
        first = Part(samples, 0, spec.samples)
        key = _key(first, tensors, spec, plan, model_digest)

        def make(folder: Path) -> Mapping[str, JSON]:
            made = calibrate(normalised, first, tensors, spec, plan=plan, resources=resources)
            (folder / FILE).write_text(json.dumps(asdict(made)))
            return {"method": made.method, "samples": made.samples}

        return _read(cache.get_or_make("calibration", key, make, label=label))


def _key(
    samples: Iterable[Tensors],
    tensors: Sequence[str],
    spec: CalibrationSpec,
    plan: PrecisionPlan | None,
    model_digest: str,
) -> dict[str, JSON]:
    """Everything the ranges depend on; `auto` depends on the plan, the other methods do not."""
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend

    (data, count), info = describe(samples), OnnxRuntimeBackend().info()
    if count == 0:
        raise DataError("calibration: no samples; at least one is needed")
    auto = spec.method == "auto"
    return {
        "algorithm": ALGORITHM,
        "model": model_digest,
        "data": data,
        "runtime": info.version,
        "device": info.device,
        "method": spec.method,
        "percentile": spec.percentile if spec.method in ("percentile", "auto") else None,
        "tensors": sorted(tensors),
        "plan": plan.digest() if auto and plan is not None else None,
    }


def _read(entry: Entry) -> Calibration:
    try:
        data = json.loads((entry.folder / FILE).read_text())
        choices = tuple(Choice(**choice) for choice in data.pop("choices"))
        warnings = tuple(data.pop("warnings"))
        return Calibration(**{**data, "choices": choices, "warnings": warnings, "reason": entry.reason})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CacheError(f"{entry.folder / FILE}: cannot be read back: {error}") from error
