"""The TensorRT backends: `tensorrt` (8.6 to 11.x) and `tensorrt_rtx`, by one code path.

Verified here: builds with the TensorRT-RTX 1.7 builder, which needs no GPU.  Unverified on TensorRT
hardware: running engines, and the builders of `tensorrt`; both are checked against the bindings of every
version by type, and by a double of runtime, engine and context.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.base import Audit, BackendInfo, BuildRequest, Face
from harness.backends.cuda import device
from harness.backends.cuda.gpu_facts import gpu_facts
from harness.backends.relay import Progress, relay
from harness.backends.tensorrt import options as trt_options
from harness.backends.tensorrt.audit.check import audit
from harness.backends.tensorrt.audit.record import (
    ONNX,
    PLAN,
    read_layers,
    read_origin,
    read_task,
    write_record,
)
from harness.backends.tensorrt.bindings import PRODUCT, Bindings, load_bindings
from harness.backends.tensorrt.builder.axes import attribute_axes
from harness.backends.tensorrt.builder.build import Aids, BuildTask, Built, build, build_by_name
from harness.backends.tensorrt.builder.fence import fence
from harness.backends.tensorrt.builder.mark import Marking
from harness.backends.tensorrt.builder.names import without_words
from harness.backends.tensorrt.builder.timing import TimingCache
from harness.backends.tensorrt.layers import completed
from harness.backends.tensorrt.origin import Origin
from harness.backends.tensorrt.rtx import gpu_refusal, plan_refusal, targets_for
from harness.backends.tensorrt.run.engine import TensorRTEngine
from harness.backends.tensorrt.tasks import again, refusals, task_of
from harness.errors import BackendError, BuildError, NotDeployableError, NotHonouredError, RunError
from harness.graph import file as onnx_file
from harness.isolation.parent import isolated
from harness.options import default_cache_dir
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec

if TYPE_CHECKING:
    import onnx_ir as ir

    from harness.backends.base import Engine


@dataclass(frozen=True)
class TensorRTBackend:
    """Builds plan files and opens them; `name` is the bindings module.

    `isolate`: build in a child process, for at most `build_s` seconds.  `progress` is told the phases of
    builds.  `cuda`: `pycuda` or `cuda-python`; None takes the one installed.
    `timing_folder`: where timing caches are kept; None takes the user's cache folder.
    """

    name: str
    isolate: bool = True
    build_s: float = 3600.0
    progress: Progress | None = None
    cuda: device.Binding | None = None
    instrumentation: Marking = "marked outputs"
    timing_folder: Path | None = None

    @cached_property
    def bindings(self) -> Bindings:
        """The bindings.  Raises BackendUnavailableError."""
        return load_bindings(self.name)

    def info(self) -> BackendInfo:
        """Versions and GPU.  Raises BackendUnavailableError."""
        facts = dict(gpu_facts())
        gpu = facts.pop("gpu", "no GPU: builds only")
        return BackendInfo(self.name, self.version, PRODUCT[self.name], gpu, facts)

    @property
    def version(self) -> str:
        """The version of the bindings.  Raises BackendUnavailableError."""
        return str(self.bindings.api.__version__)

    def refusal(self, precision: Precision, options: BuildSpec) -> str | None:
        """Why these bindings cannot honour a precision or an option; None if they can."""
        return trt_options.refusal(self.bindings, precision, options)

    def can_run(self) -> str | None:
        """Why engines cannot be run here although they build; None if they can."""
        return self._absence

    @cached_property
    def _absence(self) -> str | None:
        """Asked once: it makes a CUDA context."""
        if why := device.absence(self.cuda):
            return why if gpu_facts() else f"nvidia-smi finds no GPU; {why}"
        if not self.bindings.rtx:
            return None
        with contextlib.closing(device.open_device(self.cuda)) as gpu:
            return gpu_refusal(self.bindings.api, gpu.info().compute_capability)

    def build(self, request: BuildRequest, folder: Path) -> Audit:
        """Write model, plan and record.  Raises BuildError, NotHonouredError, ModelError."""
        lowered = request.lowered
        what = f"{request.name}[{lowered.plan.precision}]"
        if why := self.refusal(lowered.plan.precision, request.options):
            raise NotHonouredError(f"{what}: {why}")
        if reasons := refusals(lowered, request.options, rtx=self.bindings.rtx):
            raise NotDeployableError(f"{what}: {self.bindings}: {'; '.join(reasons)}")
        model = self._parsed(fence(lowered.model), what)
        onnx_file.write(without_words(model) if request.options.typing == "weak" else model, folder / ONNX)
        task = task_of(request, self._aimed(request.options))
        if request.engine is not None:
            return self._adopt(request.engine, task, folder, what)
        built = self._inspected(self._built(request, task, folder, what), task, folder / PLAN)
        write_record(folder, task, built, self._origin(built.version))
        outputs = [value.name or "" for value in lowered.model.graph.outputs]
        found = audit(built, task.precision, task.kept, outputs, weak=task.options.typing == "weak")
        size = (folder / PLAN).stat().st_size
        return replace(found, details={**found.details, "engine_bytes": size})

    def _aimed(self, options: BuildSpec) -> BuildSpec:
        """The options with the GPU that is here as the target, where the builder by itself would miss it."""
        if not self.bindings.rtx or options.compute_capabilities:
            return options
        targets = targets_for(self.bindings.api, gpu_facts().get("compute_capability", ""))
        return options.model_copy(update={"compute_capabilities": targets})

    def load(self, folder: Path, face: Face = "verified") -> Engine:
        """Open the plan in `folder`; both faces are the same plan.  Raises RunError."""
        del face
        return self._open(folder / PLAN, read_origin(folder), read_task(folder))

    def load_instrumented(self, folder: Path, tensors: Sequence[str]) -> Engine:
        """Build the model in `folder` again, `tensors` marked as outputs, and open it.  Raises RunError."""
        task = replace(read_task(folder), outputs=tuple(tensors), marking=self.instrumentation)
        what = f"{folder.name}, {len(tensors)} tensors as {self.instrumentation}"
        with tempfile.TemporaryDirectory(prefix="trt-harness-") as name:
            plan = Path(name, PLAN)
            try:
                task, aids = again(folder, task)
                self._build(task, folder / ONNX, plan, what, replace(aids, timing_cache=self._timing()))
            except BackendError as error:
                raise RunError(str(error)) from error
            engine = self._open(plan, read_origin(folder), task)
        marked = self.instrumentation == "marked outputs"
        return engine if marked else engine.listening(tensors, self.instrumentation)

    def showable(self, folder: Path) -> frozenset[str]:
        """Tensors of the network in `folder` that are no shapes, no bools, and in no loop or branch.

        Raises RunError.
        """
        tensors = (tensor for layer in read_layers(folder)[0] for tensor in layer.outputs)
        shown = frozenset(t.name for t in tensors if not t.holds_shape and t.dtype != "BOOL")
        return shown - frozenset(read_task(folder).inner)

    def _parsed(self, model: ir.Model, what: str) -> ir.Model:
        """The model in the form that the parser reads.  Raises BuildError."""
        try:
            return model if self.bindings.reads_axes else attribute_axes(model)
        except BuildError as error:
            raise BuildError(f"{what}: {error}") from error

    def _built(self, request: BuildRequest, task: BuildTask, folder: Path, what: str) -> Built:
        """A build with the GPU that calibrators of weakly typed INT8 run on; a cache of theirs needs none."""
        timing, onnx, plan = self._timing(), folder / ONNX, folder / PLAN
        if request.calibration is None or task.options.calibration_cache:
            return self._build(task, onnx, plan, what, Aids(None, request.calibration, None, timing))
        with contextlib.closing(device.open_device(self.cuda)) as gpu:
            return self._build(task, onnx, plan, what, Aids(None, request.calibration, gpu, timing))

    def _build(self, task: BuildTask, onnx: Path, plan: Path, what: str, aids: Aids) -> Built:
        """A build in a child process, unless it shares data or memory with this one."""
        try:
            if not self.isolate or aids.calibration is not None:
                return build(self.bindings, task, onnx, plan, replace(aids, progress=self.progress))
            with relay(self.progress) as told:
                arguments = (self.name, task, onnx, plan, replace(aids, progress=told))
                return isolated(build_by_name, *arguments, timeout_s=self.build_s)
        except NotHonouredError as error:
            raise NotHonouredError(f"{what}: {error}") from error
        except BackendError as error:
            raise BuildError(f"{what}: {error}") from error

    def _inspected(self, built: Built, task: BuildTask, plan: Path) -> Built:
        """With what the engine says of its layers, where its builder did not say all and there is a GPU."""
        listed = bool(built.engine) and not built.unread and any(layer.nodes for layer in built.engine)
        if listed or self.can_run() is not None:
            return built
        with self._open(plan, self._origin(built.version), task) as engine:
            try:
                asked = engine.facts(task.barred).layers
            except (BuildError, RunError) as error:
                return replace(built, unread=(*built.unread, str(error)))
        return replace(built, engine=completed(asked, built.engine), unread=()) if asked else built

    def _timing(self) -> TimingCache | None:
        if self.bindings.rtx:
            return None
        folder = self.timing_folder or default_cache_dir() / "timing"
        return TimingCache.of(folder, f"{self.name}-{self.version}", gpu_facts().get("gpu", ""))

    def _origin(self, version: str) -> Origin:
        facts = gpu_facts()
        return Origin(self.name, version, facts.get("gpu", ""), facts.get("compute_capability", ""))

    def _adopt(self, engine: Path, task: BuildTask, folder: Path, what: str) -> Audit:
        """Take a finished plan as it is; who built it is not known."""
        try:
            shutil.copyfile(engine, folder / PLAN)
        except OSError as error:
            raise BuildError(f"{what}: {engine}: {error}") from error
        unknown = Origin("", "", "", "")
        built = Built("", (), (), (), (), (), 0.0)
        write_record(folder, task, built, unknown)
        details = {"engine_bytes": (folder / PLAN).stat().st_size, "counted": "nothing: a finished engine"}
        unseen = f"not known: whether it is {task.precision}: a finished engine is taken as it is"
        return Audit(task.precision, {}, unknown=(unseen,), details=details)

    def _open(self, plan: Path, origin: Origin, task: BuildTask) -> TensorRTEngine:
        if why := self.can_run():
            raise RunError(f"{plan}: {self.bindings} cannot run here: {why}")
        gpu = device.open_device(self.cuda)
        if why := plan_refusal(task.options.compute_capabilities, gpu.info().compute_capability):
            gpu.close()
            raise RunError(f"{plan}: {why}")
        return TensorRTEngine.open(self.bindings, plan, gpu, origin, task.options, task.base)
