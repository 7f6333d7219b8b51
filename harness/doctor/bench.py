"""What a trial of a runtime works with: it builds, opens, runs, compares, and stops at a difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.base import BuildRequest, CalibrationData
from harness.errors import HarnessError
from harness.lowering.lower import lower, quantizable
from harness.lowering.model import LoweredModel, LoweringSummary
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import BuildSpec, Profile

if TYPE_CHECKING:
    from harness.backends.base import Audit, Engine
    from harness.backends.tensorrt.backend import TensorRTBackend

LIMITS: Mapping[Precision, float] = {
    Precision.FP32: 1e-5,
    Precision.TF32: 5e-3,
    Precision.FP16: 5e-3,
    Precision.BF16: 4e-2,
    Precision.INT8: 1e-1,
    Precision.INT8_FP16: 1e-1,
}
"""Largest mean relative error of a trial's output."""


class DiffersError(HarnessError):
    """The runtime does not do what the harness believes: the call, what came, what was expected."""

    def __init__(self, call: str, got: str, expected: str) -> None:
        super().__init__(f"{call}: got {got}, expected {expected}")
        self.call, self.got, self.expected = call, got, expected

    def __reduce__(self) -> Any:
        return DiffersError, (self.call, self.got, self.expected)


class AbsentError(HarnessError):
    """This version, or this machine, does not have what a trial is of."""


class OnlyBuiltError(HarnessError):
    """Everything was built; what would run it is not here."""


@dataclass(frozen=True)
class Bench:
    """A backend under trial, and a folder of the trial's own."""

    backend: TensorRTBackend
    folder: Path

    @property
    def weak(self) -> bool:
        """Whether this runtime has weakly typed networks."""
        return self.backend.bindings.weak

    def build(
        self,
        source: ir.Model,
        profiles: tuple[Profile, ...],
        precision: Precision = Precision.FP32,
        kept: tuple[str, ...] = (),
        calibration: CalibrationData | None = None,
        name: str = "engine",
        **options: Any,
    ) -> Audit:
        """Build into the folder `name`.  Raises DiffersError where the audit finds a broken promise."""
        folder = self.folder / name
        folder.mkdir()
        spec = BuildSpec.model_validate(options)
        lowered = _lowered(source, precision if spec.typing == "strong" else Precision.FP32, kept)
        plan = PrecisionPlan(precision, kept)
        lowered = LoweredModel(lowered.model, plan, lowered.summary)
        request = BuildRequest(name, lowered, profiles, spec, folder, calibration)
        audit = self.backend.build(request, folder)
        if audit.problems:
            raise DiffersError("build", "; ".join(audit.problems), "no broken promise in the audit")
        return audit

    def open(self, name: str = "engine") -> Engine:
        """Load what was built.  Raises OnlyBuiltError where engines do not run here."""
        if why := self.backend.can_run():
            raise OnlyBuiltError(why)
        return self.backend.load(self.folder / name)

    def run(
        self, feeds: Mapping[str, NDArray[Any]], profile: int = 0, name: str = "engine"
    ) -> dict[str, NDArray[Any]]:
        """Outputs of what was built.  Raises OnlyBuiltError."""
        engine = self.open(name)
        try:
            return dict(engine.run(feeds, profile))
        finally:
            engine.close()

    def near(
        self, call: str, got: NDArray[Any], expected: NDArray[Any], precision: Precision = Precision.FP32
    ) -> None:
        """Raises DiffersError where shapes differ, or the mean relative error is above the limit."""
        if got.shape != expected.shape:
            raise DiffersError(call, f"shape {list(got.shape)}", f"shape {list(expected.shape)}")
        wide, size = got.astype(np.float64), float(np.abs(expected).sum())
        error = float(np.abs(wide - expected).sum()) / size if size else float(np.abs(wide).sum())
        limit = LIMITS[precision]
        if not error <= limit:
            raise DiffersError(call, f"mean relative error {error:.1e}", f"at most {limit:.0e} ({precision})")

    def same(self, call: str, got: object, expected: object) -> None:
        """Raises DiffersError where the two are not equal."""
        if got != expected:
            raise DiffersError(call, repr(got), repr(expected))


def _lowered(source: ir.Model, precision: Precision, kept: tuple[str, ...]) -> LoweredModel:
    """`source` at a precision; every activation has a range of 8."""
    plan = PrecisionPlan(precision, kept)
    if precision is Precision.FP32:
        return LoweredModel(source, plan, LoweringSummary())
    targets = quantizable(source, plan) if precision.quantized else ()
    return lower(source, plan, {name: 8.0 for target in targets for name in target.activations})
