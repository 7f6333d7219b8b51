"""What of a spec goes to a builder past the ONNX graph: plugins, network code, plans, calibration data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from harness.backends.base import CalibrationData
from harness.data.inputs import calibration_feeds
from harness.errors import NotHonouredError, SpecError
from harness.graph.walk import all_nodes
from harness.lowering.model import LoweredModel, LoweringSummary
from harness.paths import no_file
from harness.precision import PrecisionPlan
from harness.spec.model_spec import ModelSpec
from harness.spec.stored import sha256_of
from harness.spec.user_code import load_function, refuse_code


@dataclass(frozen=True)
class Native:
    """Fields of a `BuildRequest`, and the SHA-256 of every file and of the calibration data behind them."""

    base: Path = Path()
    calibration: CalibrationData | None = None
    network: str | None = None
    weights: Path | None = None
    engine: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """The fields of a `BuildRequest`."""
        names = ("base", "calibration", "network", "weights", "engine")
        return {name: getattr(self, name) for name in names}


def native_of(spec: ModelSpec, plan: PrecisionPlan, backend: str, *, allow_code: bool = True) -> Native:
    """What `spec` hands to `backend` for an engine of `plan`.

    Raises NotHonouredError where the backend builds from ONNX alone, SpecError for a file that is not there,
    UsageError where code is not allowed.
    """
    if not allow_code:
        refuse_code(spec)
    model = spec.model
    if backend == "onnxruntime" and (given := model.network or model.engine) is not None:
        raise NotHonouredError(f"{spec.name}: {backend} builds from ONNX, not {given!r}")
    if model.network is not None:
        load_function(spec, "model.network", model.network, allow_code=allow_code)
    calibration = _calibration(spec, plan, allow_code=allow_code)
    digest = {"calibration": _data_digest(calibration)} if calibration else {}
    return Native(
        base=spec.folder,
        calibration=calibration,
        network=model.network,
        weights=spec.folder / model.weights if model.weights else None,
        engine=spec.folder / model.engine if model.engine else None,
        files=dict(_digests(spec)) | digest,
    )


def _digests(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    named = {
        "model.network": (spec.model.network or "").rpartition(":")[0],
        "model.weights": spec.model.weights,
        "model.engine": spec.model.engine,
        "build.calibration_cache": spec.build.calibration_cache,
        **{f"build.plugins[{index}]": name for index, name in enumerate(spec.build.plugins)},
    }
    for key, name in named.items():
        if name:
            yield key, _digest(spec, key, name)


def _digest(spec: ModelSpec, key: str, name: str) -> str:
    path = spec.folder / name
    if rule := no_file(path):
        raise SpecError(spec.path or spec.name, key, name, f"{rule} (paths start from the spec's folder)")
    return sha256_of(path)


def _calibration(spec: ModelSpec, plan: PrecisionPlan, *, allow_code: bool) -> CalibrationData | None:
    """Data for calibrators of the runtime's own, which weak typing alone has."""
    if spec.build.typing == "strong" or not plan.precision.quantized:
        return None
    method = spec.of(plan.precision).calibration.method
    return CalibrationData(method, lambda: calibration_feeds(spec, plan.precision, allow_code=allow_code))


def _data_digest(data: CalibrationData) -> str:
    found = hashlib.sha256(data.method.encode())
    for batch in data.batches():
        for name, array in sorted(batch.items()):
            found.update(
                f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes()
            )
    return found.hexdigest()


def weakly_typed(normalised: ir.Model, plan: PrecisionPlan) -> LoweredModel:
    """The FP32 graph with the plan beside it: a weakly typed builder lays the plan on the network itself."""
    nodes = ((node.name or "", node.op_type) for node in all_nodes(normalised.graph))
    kept = {name: "plan" for name, op_type in nodes if plan.keeps(name, op_type)}
    return LoweredModel(normalised, plan, LoweringSummary(kept=kept))
