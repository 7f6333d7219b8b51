"""An engine is built once for everything it depends on, and its manifest says what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from harness.backends.base import Audit, BackendInfo, BuildRequest, Face
from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines.engine import BuiltEngine, EngineSource, build
from harness.errors import BuildError, RunError
from harness.lowering.lower import lower
from harness.lowering.model import LoweredModel
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import BuildSpec, Profile
from harness.storage.cache import Cache
from tests.helpers.lowering import model

PROFILE = Profile.model_validate({"shapes": {"x": {"min": [1, 4], "opt": [2, 4], "max": [4, 4]}}})


@pytest.fixture(scope="module")
def net() -> ir.Model:
    weights = {"w": np.ones((4, 2), np.float32)}
    return model("g (float[N,4] x) => (float[N,2] y) { [fc] y = MatMul(x, w) }", **weights)


@dataclass
class FakeBackend:
    """Writes a file, counts builds, and reports what it is told to."""

    version: str = "1.0"
    device: str = "gpu0"
    details: dict[str, str] = field(default_factory=lambda: {"driver": "570", "compute_capability": "9.0"})
    name: str = "fake"
    instrumentation: str = "marked outputs"
    builds: int = 0
    error: Exception | None = None
    loaded: list[Any] = field(default_factory=list)

    def info(self) -> BackendInfo:
        return BackendInfo("fake", self.version, "FakeProvider", self.device, self.details)

    def refusal(self, *_: object) -> str | None:
        return None

    def can_run(self) -> str | None:
        return None

    def build(self, request: BuildRequest, folder: Path) -> Audit:
        self.builds += 1
        if self.error:
            raise self.error
        (folder / "engine.plan").write_bytes(f"plan {self.builds}".encode())
        precision = request.lowered.plan.precision
        return Audit(precision, {"fp16": 1}, ("n",), (), ("built",), {"typing": "strong"})

    def load(self, folder: Path, face: Face = "verified") -> Any:
        self.loaded.append((folder, face))

    def load_instrumented(self, folder: Path, tensors: Sequence[str]) -> Any:
        self.loaded.append((folder, tuple(tensors)))


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


@pytest.fixture
def source(net: ir.Model) -> EngineSource:
    plan = PrecisionPlan(Precision.FP16)

    def lowered() -> LoweredModel:
        return lower(net, plan)

    return EngineSource("net", "m" * 64, "c" * 64, plan, None, (PROFILE,), BuildSpec(), lowered)


def test_a_hit_is_the_same_engine(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    first, second = build(source, backend, cache), build(source, backend, cache)
    assert (first.hit, first.reason, second.hit, second.reason) == (False, "absent", True, "hit")
    assert second.manifest == first.manifest
    assert second.manifest.hash == first.manifest.hash
    assert backend.builds == 1


def test_a_hit_lowers_nothing(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    build(source, backend, cache)

    def never() -> LoweredModel:
        raise AssertionError("lowered for a hit")

    assert build(replace(source, lower=never), backend, cache).hit


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"model_sha256": "x" * 64}, "stale: model changed"),
    ({"code_sha256": "x" * 64}, "stale: code changed"),
    ({"plan": PrecisionPlan(Precision.FP16, ("f*",))}, "stale: plan changed"),
    ({"options": BuildSpec(optimization_level=1)}, "stale: options changed"),
    ({"profiles": (PROFILE, PROFILE)}, "stale: options changed"),
    ({"ranges": {"x": 1.0}}, "stale: calibration changed"),
]


@pytest.mark.parametrize(("change", "reason"), CHANGES)
def test_whatever_it_depends_on_rebuilds_it_and_is_named(
    source: EngineSource, backend: FakeBackend, cache: Cache, change: dict[str, Any], reason: str
) -> None:
    first = build(source, backend, cache)
    again = build(replace(source, **change), backend, cache)
    assert (again.hit, again.reason) == (False, reason)
    assert again.manifest.hash != first.manifest.hash
    assert build(source, backend, cache).hit


def test_one_range_is_enough_to_rebuild(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    build(replace(source, ranges={"x": 1.0, "y": 2.0}), backend, cache)
    assert not build(replace(source, ranges={"x": 1.0, "y": 2.5}), backend, cache).hit


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "1.1"}, "stale: runtime changed"),
        ({"device": "gpu1"}, "stale: device changed"),
        ({"details": {"driver": "580", "compute_capability": "9.0"}}, "stale: driver changed"),
        ({"details": {"driver": "570", "compute_capability": "12.0"}}, "stale: compute_capability changed"),
    ],
)
def test_another_runtime_gpu_or_driver_rebuilds_it(
    source: EngineSource, backend: FakeBackend, cache: Cache, change: dict[str, Any], reason: str
) -> None:
    build(source, backend, cache)
    assert build(source, replace(backend, **change), cache).reason == reason


def test_threads_do_not_rebuild_it(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    build(source, backend, cache)
    other = replace(backend, details=backend.details | {"intra_op_threads": "7"})
    assert build(source, other, cache).hit


def test_a_truncated_engine_is_rebuilt(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    first = build(source, backend, cache)
    (first.folder / "engine.plan").write_bytes(b"pl")
    again = build(source, backend, cache)
    assert again.reason == "damaged: 'engine.plan' has 2 bytes, its manifest says 6"
    assert again.manifest.hash != first.manifest.hash, "another build is another engine"


def test_a_failed_build_is_not_kept(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    backend.error = BuildError("net[fp16]: no")
    with pytest.raises(BuildError, match="no"):
        build(source, backend, cache)
    backend.error = None
    assert build(source, backend, cache).reason == "absent"


def test_the_manifest_is_complete(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    found = build(replace(source, ranges={"x": 1.0}), backend, cache).manifest
    assert set(found.hashes) == {"model", "code", "plan", "calibration", "options", "files"}
    assert found.hashes["model"] == "m" * 64
    assert len(found.hashes["files"]["engine.plan"]) == 64
    assert found.versions == {"runtime": "1.0", "driver": "570", "gpu": None, "compute_capability": "9.0"}
    assert (found.backend, found.provider, found.device) == ("fake", "FakeProvider", "gpu0")
    assert found.asked["precision"] == "fp16"
    assert found.asked["profiles"][0]["shapes"]["x"]["max"] == [4, 4]
    assert found.got["nodes"] == {"fp16": 1}
    assert found.lowering["lowered"] == 1
    assert found.engine_bytes == len(b"plan 1")
    assert found.build_s > 0
    assert found.built_at.endswith("+00:00")


def test_the_audit_survives_the_cache(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    build(source, backend, cache)
    found = build(source, backend, cache).manifest.audit
    assert found == Audit(Precision.FP16, {"fp16": 1}, ("n",), (), ("built",), {"typing": "strong"})
    assert isinstance(found.requested, Precision)


def test_the_manifest_is_plain_json_with_its_hash(
    source: EngineSource, backend: FakeBackend, cache: Cache
) -> None:
    import json

    found = build(source, backend, cache).manifest
    data = json.loads(json.dumps(found.to_json()))
    assert data["hash"] == found.hash
    assert replace(found, name="other").hash != found.hash


def test_opening_asks_the_backend(source: EngineSource, backend: FakeBackend, cache: Cache) -> None:
    found = build(source, backend, cache)
    found.open()
    found.open("deployed")
    found.open_instrumented(["a"])
    assert backend.loaded == [(found.folder, "verified"), (found.folder, "deployed"), (found.folder, ("a",))]


def test_a_deployed_face_that_crashed_when_tried_is_not_opened(
    source: EngineSource, backend: FakeBackend, cache: Cache
) -> None:
    found = build(source, backend, cache)
    got = {**found.manifest.got, "details": {"deployed": {"unavailable": "died of SIGSEGV"}}}
    crashed = replace(found, manifest=replace(found.manifest, got=got))
    with pytest.raises(RunError, match="the deployed engine does not open here: died of SIGSEGV"):
        crashed.open("deployed")
    crashed.open()
    assert (found.unavailable, backend.loaded) == ("", [(found.folder, "verified")])


@pytest.mark.parametrize("precision", [p for p in Precision if p is not Precision.TF32])
def test_real_engines_of_onnx_runtime(net: ir.Model, cache: Cache, precision: Precision) -> None:
    plan = PrecisionPlan(precision)
    ranges = {"x": 4.0} if precision.quantized else None
    real = EngineSource(
        "net", "m", "c", plan, ranges, (PROFILE,), BuildSpec(), lambda: lower(net, plan, ranges)
    )
    backend = OnnxRuntimeBackend(isolate=False)
    first, again = build(real, backend, cache), build(real, backend, cache)
    assert again.hit
    feeds = {"x": np.ones((3, 4), np.float32)}
    outputs = [run(engine, feeds) for engine in (first, again)]
    np.testing.assert_array_equal(*outputs)
    np.testing.assert_allclose(outputs[0], 4, rtol=2e-2)


def run(built: BuiltEngine, feeds: dict[str, Any]) -> Any:
    with built.open() as engine:
        return engine.run(feeds)["y"]
