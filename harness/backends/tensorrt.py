"""The TensorRT backends: `tensorrt` (8.6 to 11.x) and `tensorrt_rtx`, by one code path.

Verified here: builds with the TensorRT-RTX 1.7 builder, which needs no GPU.  Unverified on TensorRT
hardware: running engines, and the builders of `tensorrt`; both are checked against the bindings of every
version by type, and by a double of runtime, engine and context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness import onnx_file
from harness.backends import device, trt_options
from harness.backends.base import Audit, BackendInfo, BuildRequest, Face
from harness.backends.ort_device import gpu_facts
from harness.backends.tensorrt_audit import audit
from harness.backends.tensorrt_build import BuildTask, Built, build, build_by_name
from harness.backends.tensorrt_record import ONNX, PLAN, Origin, read_origin, read_task, write_record
from harness.backends.tensorrt_run import TensorRTEngine
from harness.backends.trt_bindings import Bindings, load_bindings
from harness.backends.trt_fence import fence
from harness.backends.trt_progress import Progress
from harness.backends.trt_rtx import gpu_refusal
from harness.errors import BackendError, BuildError, NotHonouredError, RunError
from harness.isolation import isolated
from harness.lowering import LoweredModel
from harness.lowering.refusals import tensorrt_refusals
from harness.onnx_graph import all_nodes
from harness.precision import Precision
from harness.spec import BuildSpec

if TYPE_CHECKING:
    from harness.backends.base import Engine

INSTRUMENTED = "instrumented.plan"


@dataclass(frozen=True)
class TensorRTBackend:
    """Builds plan files and opens them; `name` is the bindings module.

    `isolate`: build in a child process, for at most `build_s` seconds; `progress` is called in this process
    alone, so it goes with `isolate=False`.  `cuda`: `pycuda` or `cuda-python`; None takes the one installed.
    """

    name: str
    isolate: bool = True
    build_s: float = 3600.0
    progress: Progress | None = None
    cuda: device.Binding | None = None
    instrumentation: str = "marked outputs"

    @cached_property
    def bindings(self) -> Bindings:
        """The bindings.  Raises BackendUnavailableError."""
        return load_bindings(self.name)

    def info(self) -> BackendInfo:
        """Versions and GPU.  Raises BackendUnavailableError."""
        facts = dict(gpu_facts())
        return BackendInfo(
            self.name, str(self.bindings.api.__version__), "", facts.pop("gpu", "no GPU: builds only"), facts
        )

    def refusal(self, precision: Precision, options: BuildSpec) -> str | None:
        """Why these bindings cannot honour a precision or an option; None if they can."""
        return trt_options.refusal(self.bindings, precision, options)

    def can_run(self) -> str | None:
        """Why engines cannot be run here although they build; None if they can."""
        why = device.absence(self.cuda)
        if why is not None or not self.bindings.rtx:
            return why
        return gpu_refusal(self.bindings.api, gpu_facts().get("compute_capability", ""))

    def build(self, request: BuildRequest, folder: Path) -> Audit:
        """Write model, plan and record.  Raises BuildError, NotHonouredError, ModelError."""
        lowered = request.lowered
        what = f"{request.name}[{lowered.plan.precision}]"
        if why := self.refusal(lowered.plan.precision, request.options):
            raise NotHonouredError(f"{what}: {why}")
        if reasons := refusals(lowered, request.options):
            raise BuildError(f"{what}: {self.bindings}: {'; '.join(reasons)}")
        onnx_file.write(fence(lowered.model), folder / ONNX)
        task = BuildTask(
            lowered.plan.precision, request.profiles, request.options, kept_by_plan(lowered), request.base
        )
        built = self._build(task, folder, folder / PLAN, what)
        facts = gpu_facts()
        origin = Origin(self.name, built.version, facts.get("gpu", ""), facts.get("compute_capability", ""))
        write_record(folder, task, built, origin)
        outputs = [value.name or "" for value in lowered.model.graph.outputs]
        return audit(built, task.precision, task.kept, outputs)

    def load(self, folder: Path, face: Face = "verified") -> Engine:
        """Open the plan in `folder`; both faces are the same plan.  Raises RunError."""
        del face
        return self._open(folder / PLAN, read_origin(folder))

    def load_instrumented(self, folder: Path, tensors: Sequence[str]) -> Engine:
        """Build the model in `folder` again, `tensors` marked as outputs, and open it.  Raises RunError."""
        task = replace(read_task(folder), outputs=tuple(tensors))
        plan = folder / INSTRUMENTED
        try:
            self._build(task, folder, plan, f"{folder.name}, {len(tensors)} tensors marked as outputs")
            return self._open(plan, read_origin(folder))
        except BuildError as error:
            raise RunError(str(error)) from error
        finally:
            plan.unlink(missing_ok=True)

    def _build(self, task: BuildTask, folder: Path, plan: Path, what: str) -> Built:
        try:
            if self.isolate:
                return isolated(build_by_name, self.name, task, folder / ONNX, plan, timeout_s=self.build_s)
            return build(self.bindings, task, folder / ONNX, plan, self.progress)
        except NotHonouredError as error:
            raise NotHonouredError(f"{what}: {error}") from error
        except BackendError as error:
            raise BuildError(f"{what}: {error}") from error

    def _open(self, plan: Path, origin: Origin) -> TensorRTEngine:
        if why := self.can_run():
            raise RunError(f"{plan}: {self.bindings} cannot run here: {why}")
        return TensorRTEngine.open(self.bindings, plan, device.open_device(self.cuda), origin)


def refusals(lowered: LoweredModel, options: BuildSpec) -> list[str]:
    """What TensorRT would refuse in the model; plugins, where there are any, may bring any domain."""
    domains = {node.domain for node in all_nodes(lowered.model.graph)}
    return tensorrt_refusals(lowered.model, frozenset(domains) if options.plugins else frozenset())


def kept_by_plan(lowered: LoweredModel) -> tuple[str, ...]:
    """The ONNX nodes of the lowered graph that the plan keeps FP32, in graph order."""
    if lowered.plan.precision in (Precision.FP32, Precision.TF32):
        return ()
    names = ((node.name or "", node.op_type) for node in all_nodes(lowered.model.graph))
    kept = lowered.summary.kept
    return tuple(name for name, op_type in names if name in kept and lowered.plan.keeps(name, op_type))
