"""What is derived from one spec, each thing once per session: model, lowered models, engines, reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir
from pydantic import TypeAdapter

from harness.backends.base import Backend
from harness.calibration.calibrate import Resources, calibrate_cached
from harness.calibration.model import Calibration
from harness.data.inputs import Feeds, calibration_feeds
from harness.engines.conversion import Conversion, Pair, bounds, conversion_of
from harness.engines.engine import BuiltEngine, EngineSource, build
from harness.engines.native import native_of, weakly_typed
from harness.engines.randomness import random_outputs
from harness.engines.reference import CachedOutputs, Reference, Source, feeds_digest
from harness.engines.trial import require_survives
from harness.graph import file as onnx_file
from harness.graph.walk import all_nodes
from harness.lowering.deployable import Deployment
from harness.lowering.emulation.emulate import Recurrence, emulate
from harness.lowering.formats.single import to_single
from harness.lowering.lower import lower, quantizable
from harness.lowering.model import LoweredModel, Ranges
from harness.lowering.passes.normalise import normalise
from harness.lowering.refusals import all_refusals, check_reference
from harness.lowering.targets import Target
from harness.options import Options
from harness.precision import Precision, PrecisionPlan
from harness.spec.assets import model_path
from harness.spec.check import check_against_model
from harness.spec.model_spec import ModelSpec
from harness.spec.terms import Terms
from harness.storage.cache import JSON, Cache

FLOAT64 = "computes in float64, which TensorRT lacks: engines compute in FP32, held against float64 outputs"
CODE = (
    "lowering/**/*.py",
    "backends/**/*.py",
    "calibration/*.py",
    "graph/*.py",
    "precision.py",
    "engines/conversion.py",
    "engines/reference.py",
)
LIBRARIES = ("onnx", "onnx-ir", "numpy", "ml-dtypes")
"""They convert opsets, infer shapes and round weights."""
TARGET: TypeAdapter[Target] = TypeAdapter(Target)


@dataclass(frozen=True)
class Subject:
    """One spec on one backend; nothing is read, lowered or built before it is asked for."""

    spec: ModelSpec
    backend: Backend
    cache: Cache
    options: Options = field(default_factory=Options)

    @cached_property
    def model(self) -> ir.Model:
        """The ONNX model as it is in its file.  Raises UsageError."""
        return onnx_file.read(model_path(self.spec))

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of graph and weights of `model`."""
        return onnx_file.digest(self.model)

    @property
    def cpu_key(self) -> dict[str, JSON]:
        """What every result on ONNX Runtime's CPU provider depends on, for the key that it is kept by."""
        from harness.backends.onnxruntime.backend import OnnxRuntimeBackend

        info = OnnxRuntimeBackend().info()
        return {
            "model": self.digest,
            "code": code_digest(),
            "runtime": info.version,
            "device": info.device,
        }

    @cached_property
    def exact(self) -> ir.Model:
        """The normalised model, float64 where its file is, checked against the spec.  Raises UsageError."""
        model = normalise(self.model)
        check_reference(model)
        check_against_model(self.spec, model, self.model)
        return model

    @cached_property
    def normalised(self) -> ir.Model:
        """The FP32 model that everything is lowered from: `exact` but for float64.  Raises UsageError."""
        return to_single(self.exact)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of the model, one line each."""
        wide = () if self.normalised is self.exact else (FLOAT64,)
        unknown = self.conversion.unchecked
        unchecked = (f"not known whether normalising the model moves its numbers: {unknown}",)
        return (*wide, *(unchecked if unknown else ()))

    @property
    def target(self) -> Target:
        """What the model is deployed on: as the options say, else what builds here, else as the spec says."""
        if self.options.target is not None:
            return TARGET.validate_python(self.options.target)
        own = self.backend.name if self.backend.name in ("tensorrt", "tensorrt_rtx") else self.spec.target
        return TARGET.validate_python(own)

    @cached_property
    def deployment(self) -> Deployment:
        """What the target makes of the model; one that is built on here has its say when it builds."""
        if self.backend.name == self.target:
            return Deployment(self.target)
        domains = {node.domain for node in all_nodes(self.normalised.graph)}
        plugins = frozenset(domains if self.spec.build.plugins else ())
        return Deployment(self.target, tuple(all_refusals(self.normalised, plugins)))

    @cached_property
    def feeds(self) -> Feeds:
        """The spec's data."""
        return Feeds(self.spec, self.options.allow_code)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that the spec does not ignore, in graph order."""
        names = (str(value.name) for value in self.model.graph.outputs)
        ignored = {name for name, part in self.spec.outputs.items() if part.compare == "ignore"}
        return tuple(name for name in names if name not in ignored)

    @cached_property
    def random_outputs(self) -> tuple[str, ...]:
        """The outputs that the model makes by chance, in graph order.  Raises RunError."""
        opt = {name: part.opt for name, part in self.spec.profiles[0].shapes.items()}
        return random_outputs(self.exact, self.output_names, lambda: self.feeds.feed(opt))

    def terms(self, precision: Precision, *, strict: bool = False) -> Terms:
        """What the outputs of an engine of `precision` are judged by: random ones are not."""
        return self.spec.terms(precision, strict=strict).ignoring(self.random_outputs)

    def plan(self, precision: Precision) -> PrecisionPlan:
        """The spec's plan for `precision`."""
        return self.spec.plan(precision)

    def lowered(self, what: Precision | PrecisionPlan) -> LoweredModel:
        """The model with a precision (and the spec's FP32 nodes) or with another plan in it."""
        plan = self._plan(what)
        return lower(self.normalised, plan, self.ranges(plan))

    def ranges(self, what: Precision | PrecisionPlan) -> Ranges | None:
        """Calibrated ranges for a quantized plan, whatever nodes it keeps; None for any other."""
        plan = self._plan(what)
        return self.calibration(plan.precision).ranges if plan.precision.quantized else None

    def calibration(self, precision: Precision) -> Calibration:
        """The calibration of `precision` on the spec's data, kept in the cache.  Raises DataError."""
        kept = self._kept
        if ("calibration", precision) not in kept:
            kept["calibration", precision] = self._calibrate(precision)
        found: Calibration = kept["calibration", precision]
        return found

    def engine(self, what: Precision | PrecisionPlan) -> BuiltEngine:
        """The engine of a precision or plan, built or from the cache.  Raises BackendError, UsageError."""
        plan = self._plan(what)
        if ("engine", plan) not in self._kept:
            self._kept["engine", plan] = build(self.source(plan), self.backend, self.cache)
        found: BuiltEngine = self._kept["engine", plan]
        return found

    def reference(self) -> Reference:
        """The FP32 outputs that engines are judged by."""
        if "reference" not in self._kept:
            self.require_survives()
            self._kept["reference"] = Reference(self._outputs("reference", lambda: self.exact), self.cache)
        found: Reference = self._kept["reference"]
        return found

    def require_survives(self) -> None:
        """Raise RunError if ONNX Runtime's CPU provider dies of the FP32 model; tried once, apart."""
        require_survives(self.spec.name, self._trial, self.cache, self.cpu_key)
        _ = self.conversion

    @cached_property
    def conversion(self) -> Conversion:
        """The model's file beside `exact`, both run.  Raises ModelError where numbers were moved."""
        pair = Pair(self.spec.name, model_path(self.spec), lambda: self.exact, self.output_names)
        feeds = [self.feeds.feed(shapes) for shapes in bounds(self.spec.profiles)]
        key = {**self.cpu_key, "outputs": list(self.output_names), "feeds": [feeds_digest(f) for f in feeds]}
        return conversion_of(pair, feeds, self.cache, key)

    def _trial(self) -> tuple[ir.Model, Mapping[str, Any]]:
        smallest = self.spec.profiles[0].at("min")
        return self.exact, self.feeds.feed(smallest)

    def emulation(self, what: Precision | PrecisionPlan, recurrence: Recurrence = "stepped") -> CachedOutputs:
        """Outputs of the lowered model as emulated on the CPU, which consistency is judged by."""
        from harness.backends.onnxruntime.backend import emulation_level

        plan = self._plan(what)
        level = emulation_level(plan.precision)
        kept = "" if recurrence == "stepped" else f" {recurrence}"
        source = self._outputs(
            f"emulation {plan}{kept}", lambda: emulate(self.lowered(plan), recurrence), plan, level
        )
        return CachedOutputs(source, self.cache)

    @cached_property
    def _kept(self) -> dict[Any, Any]:
        return {}

    def _plan(self, what: Precision | PrecisionPlan) -> PrecisionPlan:
        return what if isinstance(what, PrecisionPlan) else self.plan(what)

    def _calibrate(self, precision: Precision) -> Calibration:
        everything = PrecisionPlan(precision)
        nodes = quantizable(self.normalised, everything)
        tensors = sorted({name for node in nodes for name in node.activations})
        part = self.spec.of(precision).calibration
        self.require_survives()
        if not tensors:
            return Calibration({}, "none: the model has its own Q/DQ, or nothing to quantize", 0)
        return calibrate_cached(
            self.normalised,
            _Again(lambda: calibration_feeds(self.spec, precision, allow_code=self.options.allow_code)),
            tensors,
            part,
            cache=self.cache,
            model_digest=f"{self.digest} {code_digest()}",
            plan=self.plan(precision),
            resources=Resources(memory_bytes=self.options.layer_memory_bytes),
            label=f"{self.spec.name}[{precision}]",
        )

    def source(self, plan: PrecisionPlan) -> EngineSource:
        """What the engine of `plan` is built from.  Raises NotHonouredError, UsageError."""
        weak = self.spec.build.typing == "weak"
        native = native_of(self.spec, plan, self.backend.name, allow_code=self.options.allow_code)
        return EngineSource(
            name=self.spec.name,
            model_sha256=self.digest,
            code_sha256=code_digest(),
            plan=plan,
            ranges=None if weak else self.ranges(plan),
            profiles=self.spec.profiles,
            options=self.spec.build,
            lower=lambda: weakly_typed(self.normalised, plan) if weak else self.lowered(plan),
            native=native,
        )

    def _outputs(
        self,
        what: str,
        model: Callable[[], ir.Model],
        plan: PrecisionPlan | None = None,
        level: str = "none",
    ) -> Source:
        ranges = self.ranges(plan) if plan else None
        key = {
            **self.cpu_key,
            "what": what,
            "plan": plan.digest() if plan else None,
            "calibration": dict(ranges) if ranges else None,
            "level": level,
        }
        return Source(f"{self.spec.name} {what}", key, model, self.output_names, level)


@dataclass(frozen=True)
class _Again:
    """Feeds that are made afresh for each reading."""

    make: Callable[[], Iterator[Mapping[str, Any]]]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return self.make()


@cache
def code_digest() -> str:
    """SHA-256, in hex, of the code that turns a model into what a runtime is given, libraries included."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    found.update(repr([(name, version(name)) for name in LIBRARIES]).encode())
    files = [path for pattern in CODE for path in root.glob(pattern)]
    for path in sorted(files):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()
