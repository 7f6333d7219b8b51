"""The ONNX Runtime backend, on any of its execution providers.

On the CPU provider reduced precision is verified on the emulation model, and the lowered model itself,
optimised, is the deployed face; FP32 has one face, the optimised session.  On other providers both faces are
the lowered model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnxruntime as ort

from harness import processors
from harness.backends.base import CUDA, Audit, BackendInfo, BuildRequest, Face
from harness.backends.cuda import device
from harness.backends.cuda.gpu_facts import cpu_name, gpu_facts
from harness.backends.cuda.presence import gpu_absence
from harness.backends.onnxruntime import audit as ort_audit
from harness.backends.onnxruntime.check import emulation_level, self_test
from harness.backends.onnxruntime.device_engine import OrtDeviceEngine
from harness.backends.onnxruntime.models import open_model, run_model
from harness.backends.onnxruntime.provider import CPU, require_provider
from harness.backends.onnxruntime.session import OrtEngine, SessionSettings
from harness.backends.onnxruntime.slices import SliceOpener
from harness.backends.onnxruntime.trial import FaceTrial, try_face
from harness.errors import BackendUnavailableError, BuildError, NotHonouredError, RunError
from harness.graph import file as onnx_file
from harness.isolation.parent import isolated, memory_limit
from harness.lowering.emulation.emulate import emulate
from harness.lowering.model import LoweredModel
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec, Shape

__all__ = [
    "OnnxRuntimeBackend",
    "OrtEngine",
    "SessionSettings",
    "emulation_level",
    "open_model",
    "run_model",
    "self_test",
]

RECORD = "engine.json"
APART = "a trial run in a process of its own failed"
HARMLESS = frozenset({"timing_cache", "tf32"})
FaceFiles = Mapping[str, tuple[str, str]]
"""Face name -> file name and optimisation level."""


@dataclass(frozen=True)
class OnnxRuntimeBackend:
    """Builds ONNX files and opens them as sessions of one provider.

    `provider_options` go to ONNX Runtime as they are; `intra_op_threads`, `inter_op_threads`: 0 lets ONNX
    Runtime decide; `isolate`: try a fresh engine in a child process first, for at most `trial_s` seconds.
    On CUDA the deployed face runs between device buffers had through `cuda`, `pycuda` or `cuda-python` (None
    takes the one installed), and its device runs are CUDA graphs if `cuda_graph`.
    """

    provider: str = CPU
    provider_options: Mapping[str, str] = field(default_factory=dict)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    isolate: bool = True
    trial_s: float = 600.0
    cuda: device.Binding | None = None
    cuda_graph: bool = False
    name: str = "onnxruntime"
    instrumentation: str = "added outputs"

    def info(self) -> BackendInfo:
        """Versions, provider, device, threads.  Raises BackendUnavailableError."""
        if why := self.can_run():
            raise BackendUnavailableError(f"onnxruntime: {why}")
        facts = {} if self.provider == CPU else gpu_facts(self._index)
        details = {
            "intra_op_threads": str(self.intra_op_threads or "default"),
            "inter_op_threads": str(self.inter_op_threads or "default"),
            "cpus": str(processors.usable()),
            **{f"provider.{key}": value for key, value in sorted(self.provider_options.items())},
            **self._cuda_details(),
            **facts,
        }
        hardware = cpu_name() if self.provider == CPU else facts.get("gpu", "unknown")
        return BackendInfo(self.name, ort.__version__, self.provider, hardware, details)

    def _cuda_details(self) -> dict[str, str]:
        if self.provider != CUDA:
            return {}
        bindings = (self.cuda,) if self.cuda else device.installed()
        return {
            "cuda_binding": next(iter(bindings), "none"),
            "cuda_graph": "on" if self.cuda_graph else "off",
        }

    @property
    def _index(self) -> int:
        return int(self.provider_options.get("device_id", "0"))

    def refusal(self, precision: Precision, options: BuildSpec) -> str | None:
        """Why a precision or a build option cannot be honoured here; None if it can."""
        if self.provider == CPU and (precision is Precision.TF32 or options.tf32):
            return "the CPU provider has no TF32"
        default = BuildSpec().model_dump()
        asked = [key for key, value in options.model_dump().items() if value != default[key]]
        refused = sorted(set(asked) - HARMLESS)
        return (
            f"build.{refused[0]} is an option of TensorRT's builder, ONNX Runtime has none"
            if refused
            else None
        )

    def can_run(self) -> str | None:
        """Why sessions cannot run here; None if they can."""
        try:
            require_provider(self.provider)
        except NotHonouredError as error:
            return str(error)
        why = gpu_absence(self._index) if self.provider == CUDA else None
        return why and f"{self.provider}: {why}"

    def build(self, request: BuildRequest, folder: Path) -> Audit:
        """Write the ONNX files of both faces and try them.  Raises BuildError, NotHonouredError."""
        precision, what = request.lowered.plan.precision, f"{request.name}[{request.lowered.plan.precision}]"
        if why := self.refusal(precision, request.options):
            raise NotHonouredError(f"{what}: {why}")
        if self.provider == CPU:
            self_test()
        faces = self._write(request.lowered, folder)
        tf32 = precision is Precision.TF32 or request.options.tf32
        record = {"faces": faces, "provider_options": self._tf32(tf32), "name": request.name}
        (folder / RECORD).write_text(json.dumps(record, indent=1))
        trials = self._try(request, folder, what, faces)
        if why := trials["verified"].not_opened:
            raise BuildError(f"{what}: {why}")
        return self._audit(request.lowered, trials, folder)

    def load(self, folder: Path, face: Face = "verified") -> OrtEngine:
        """Open a face of the engine in `folder`.

        Raises NotHonouredError, RunError, BackendUnavailableError.
        """
        path, settings = self._face(folder, face)
        if face == "deployed" and self.provider == CUDA and (self.cuda or device.installed()):
            return self._load_on_device(path, settings)
        if face == "deployed" and self.cuda_graph:
            raise BackendUnavailableError(f"a CUDA graph needs device buffers: {device.INSTALL}")
        return OrtEngine.open(path, settings)

    def _load_on_device(self, path: Path, settings: SessionSettings) -> OrtEngine:
        gpu = device.open_device(self.cuda, self._index)
        if not self.cuda_graph:
            return OrtDeviceEngine.on(gpu, path, settings)
        options = {**settings.provider_options, "enable_cuda_graph": "1"}
        try:
            return OrtDeviceEngine.on(gpu, path, replace(settings, provider_options=options))
        except RunError as error:
            raise NotHonouredError(f"{path.parent.name}: no CUDA graph of this model: {error}") from error

    def load_instrumented(self, folder: Path, tensors: Sequence[str]) -> OrtEngine:
        """The verified face with `tensors` of its main graph added to the outputs.  Raises RunError."""
        path, settings = self._face(folder, "verified")
        model = onnx_file.read(path)
        names = dict.fromkeys([*(value.name or "" for value in model.graph.outputs), *tensors])
        return open_model(model, tuple(names), settings=settings)

    def slices(self, folder: Path) -> SliceOpener:
        """What opens parts of the verified face, whose model is read once for all.  Raises RunError."""
        path, settings = self._face(folder, "verified")
        return SliceOpener(onnx_file.read(path), settings)

    def _write(self, lowered: LoweredModel, folder: Path) -> FaceFiles:
        precision = lowered.plan.precision
        onnx_file.write(lowered.model, folder / "model.onnx")
        deployed = ("model.onnx", "all")
        if self.provider != CPU or not (precision.half or precision.quantized):
            return {"verified": deployed, "deployed": deployed}
        onnx_file.write(emulate(lowered), folder / "emulation.onnx")
        return {"verified": ("emulation.onnx", emulation_level(precision)), "deployed": deployed}

    def _tf32(self, on: bool) -> dict[str, str]:
        return {"use_tf32": "1" if on else "0"} if self.provider == CUDA else {}

    def _try(
        self, request: BuildRequest, folder: Path, what: str, files: FaceFiles
    ) -> Mapping[str, FaceTrial]:
        """A trial of each face by itself: a crash of the deployed one leaves what is judged as it is."""
        shapes = request.profiles[0].at("min")
        try:
            trials = {"verified": self._try_face(folder, "verified", shapes)}
        except RunError as error:
            raise BuildError(f"{what}: {APART}: {error}") from error
        if files["deployed"] != files["verified"] and not trials["verified"].not_opened:
            try:
                trials["deployed"] = self._try_face(folder, "deployed", shapes)
            except RunError as error:
                trials["deployed"] = FaceTrial(not_opened=f"{APART}: {error}")
        return trials

    def _try_face(self, folder: Path, face: Face, shapes: Mapping[str, Shape]) -> FaceTrial:
        path, settings = self._face(folder, face)
        if not self.isolate:
            return try_face(path, settings, shapes)
        memory = memory_limit() if self.provider == CPU else None
        return isolated(
            try_face, path, settings, shapes, timeout_s=self.trial_s, memory_bytes=memory, reuse=True
        )

    def _audit(self, lowered: LoweredModel, trials: Mapping[str, FaceTrial], folder: Path) -> Audit:
        trial = trials.get("deployed", trials["verified"])
        deployed: dict[str, Any] = {
            "nodes_by_provider": dict(trial.nodes_by_provider),
            "provider_options": dict(trial.provider_options),
            "provider_options_asked": dict(self._face(folder, "deployed")[1].provider_options),
        }
        if trial.not_opened:
            deployed["unavailable"] = trial.not_opened
        found = ort_audit.audit(lowered, self.provider, deployed, _messages(trials))
        size = sum(file.stat().st_size for file in folder.glob("model.onnx*"))
        return replace(found, details={**found.details, "engine_bytes": size})

    def _face(self, folder: Path, face: Face) -> tuple[Path, SessionSettings]:
        try:
            record = json.loads((folder / RECORD).read_bytes())
            file, level = record["faces"][face]
            options = {**record["provider_options"], **self.provider_options}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder}: no engine of the ONNX Runtime backend: {error}") from error
        threads = (self.intra_op_threads, self.inter_op_threads)
        settings = SessionSettings(self.provider, options, level, *threads, spin=face == "deployed")
        return folder / file, settings


def _messages(trials: Mapping[str, FaceTrial]) -> tuple[str, ...]:
    opened = [f"{face} face does not open: {t.not_opened}" for face, t in trials.items() if t.not_opened]
    run = [f"{face} face does not run on zeros: {t.not_run}" for face, t in trials.items() if t.not_run]
    return (*opened, *run)
