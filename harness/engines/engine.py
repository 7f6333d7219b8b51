"""Engines: built once for everything they depend on, kept in the cache, with a manifest of what they are."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.backends.base import Audit, Backend, BackendInfo, BuildRequest, Engine, Face
from harness.engines.native import Native
from harness.errors import RunError
from harness.lowering.model import LoweredModel, Ranges
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import BuildSpec, Profile
from harness.storage.cache import JSON, Cache, Entry

DEVICE_FACTS = ("driver", "gpu", "compute_capability")


@dataclass(frozen=True)
class EngineSource:
    """What one engine depends on, before anything is lowered.

    `model_sha256`: the ONNX model as read; `code_sha256`: the code that lowers it; `ranges`: calibrated
    ranges where the plan is quantized.  `lower` makes the lowered model, and is called only for a build.
    `native`: what goes to the builder past the graph.
    """

    name: str
    model_sha256: str
    code_sha256: str
    plan: PrecisionPlan
    ranges: Ranges | None
    profiles: tuple[Profile, ...]
    options: BuildSpec
    lower: Callable[[], LoweredModel]
    native: Native = field(default_factory=Native)

    @property
    def label(self) -> str:
        """What the engine is called in messages: `name[precision]`."""
        return f"{self.name}[{self.plan.precision}]"


@dataclass(frozen=True)
class Manifest:
    """What an engine was built from and by, what was asked and what was got; plain JSON values.

    `hashes`: SHA-256 of model, plan, calibration (None without one), options, code, and of each file of the
    engine.  `versions`: of the runtime, and driver, GPU and compute capability where there is one.
    `lowering`: what lowering did (see `LoweringSummary`).  `build_s`: seconds.  `engine_bytes`: size of what
    would be deployed.
    """

    name: str
    precision: str
    backend: str
    provider: str
    device: str
    hashes: Mapping[str, Any]
    versions: Mapping[str, str | None]
    asked: Mapping[str, Any]
    got: Mapping[str, Any]
    lowering: Mapping[str, Any]
    build_s: float
    engine_bytes: int
    built_at: str
    runtime: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256, in hex, of the whole manifest: it names this very build."""
        return digest_of(asdict(self))

    @property
    def audit(self) -> Audit:
        """What the backend found when the engine was built."""
        tuples = {key: tuple(self.got[key]) for key in ("fp32_kept", "problems", "unknown", "messages")}
        return Audit(**{**self.got, **tuples, "requested": Precision(self.got["requested"])})

    def to_json(self) -> dict[str, Any]:
        """The manifest and its hash as JSON-ready data."""
        return {**asdict(self), "hash": self.hash}


@dataclass(frozen=True)
class BuiltEngine:
    """An engine on disk.  `hit`: it was there already; `reason`: why it was built, or "hit"."""

    manifest: Manifest
    folder: Path
    hit: bool
    reason: str
    backend: Backend

    @property
    def unavailable(self) -> str:
        """Why the deployed face does not open, as the build found out; empty where it does."""
        return str(self.manifest.audit.details.get("deployed", {}).get("unavailable", ""))

    def open(self, face: Face = "verified") -> Engine:
        """Load it.  Raises RunError, NotHonouredError."""
        if face == "deployed" and self.unavailable:
            raise RunError(f"the deployed engine does not open here: {self.unavailable}")
        return self.backend.load(self.folder, face)

    def open_instrumented(self, tensors: Sequence[str]) -> Engine:
        """Load it with intermediate `tensors` among its outputs.  Raises RunError."""
        return self.backend.load_instrumented(self.folder, tensors)


def build(source: EngineSource, backend: Backend, cache: Cache) -> BuiltEngine:
    """The engine of `source` on `backend`, from the cache if everything it depends on is the same.

    Raises BuildError, NotHonouredError, BackendUnavailableError, CacheError.
    """
    info = backend.info()
    hashes = _hashes(source)
    key = _key(source, info, hashes)

    def make(folder: Path) -> Mapping[str, JSON]:
        lowered = source.lower()
        request = BuildRequest(
            source.name, lowered, source.profiles, source.options, **source.native.request()
        )
        started = time.perf_counter()
        audit = backend.build(request, folder)
        return _describe(source, info, hashes, lowered, audit, time.perf_counter() - started, folder)

    entry = cache.get_or_make("engine", key, make, label=f"{source.label} {info.backend} {info.provider}")
    return built(entry, backend)


def built(entry: Entry, backend: Backend) -> BuiltEngine:
    """The engine that an entry of the cache holds."""
    parts = dict(entry.manifest)
    manifest = Manifest(**(parts | {"hashes": {**parts["hashes"], "files": dict(entry.files)}}))
    return BuiltEngine(manifest, entry.folder, entry.hit, entry.reason, backend)


def digest_of(data: Any) -> str:
    """SHA-256, in hex, of JSON-ready data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def _hashes(source: EngineSource) -> dict[str, str | None]:
    options = {
        "build": source.options.model_dump(mode="json"),
        "profiles": [profile.model_dump(mode="json") for profile in source.profiles],
        **({"files": dict(source.native.files)} if source.native.files else {}),
    }
    return {
        "model": source.model_sha256,
        "code": source.code_sha256,
        "plan": source.plan.digest(),
        "calibration": _calibration_hash(source),
        "options": digest_of(options),
    }


def _calibration_hash(source: EngineSource) -> str | None:
    """Of our ranges, or of the data that the runtime calibrates on."""
    if source.ranges is None:
        return source.native.files.get("calibration")
    return digest_of(dict(source.ranges))


def _versions(info: BackendInfo) -> dict[str, str | None]:
    return {"runtime": info.version, **{name: info.details.get(name) for name in DEVICE_FACTS}}


def _key(source: EngineSource, info: BackendInfo, hashes: Mapping[str, str | None]) -> dict[str, JSON]:
    """`details` of a backend beyond versions (threads, say) change how an engine runs, not the engine."""
    where = {"backend": info.backend, "provider": info.provider, "device": info.device}
    return {"name": source.name, **where, **_versions(info), **hashes}


def _describe(
    source: EngineSource,
    info: BackendInfo,
    hashes: Mapping[str, str | None],
    lowered: LoweredModel,
    audit: Audit,
    build_s: float,
    folder: Path,
) -> dict[str, JSON]:
    asked = {
        "precision": str(source.plan.precision),
        "provider": info.provider,
        "fp32_nodes": list(source.plan.fp32_nodes),
        "fp32_op_types": list(source.plan.fp32_op_types),
        "profiles": [profile.model_dump(mode="json") for profile in source.profiles],
        "build": source.options.model_dump(mode="json"),
    }
    described = {
        "name": source.name,
        "precision": str(source.plan.precision),
        "backend": info.backend,
        "provider": info.provider,
        "device": info.device,
        "hashes": dict(hashes),
        "versions": _versions(info),
        "asked": asked,
        "got": asdict(audit),
        "lowering": _summary(lowered),
        "build_s": build_s,
        "engine_bytes": audit.details.get("engine_bytes", _size(folder)),
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "runtime": dict(info.details),
    }
    made: dict[str, JSON] = json.loads(json.dumps(described, default=str))
    return made


def _summary(lowered: LoweredModel) -> dict[str, Any]:
    summary = lowered.summary
    return {
        "lowered": len(summary.lowered),
        "quantized": len(summary.quantized),
        "kept": dict(summary.kept),
        "overflow": list(summary.overflow),
        "underflow": list(summary.underflow),
        "casts": summary.casts,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
