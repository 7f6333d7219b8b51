"""From a plan file to a deserialised engine, or to the reason why there is none."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.cuda.device import Device
from harness.backends.tensorrt import errors as trt_errors
from harness.backends.tensorrt.bindings import Bindings, deprecated
from harness.backends.tensorrt.log import Log, create_log
from harness.backends.tensorrt.run.runtime import create_runtime
from harness.errors import BackendError, RunError
from harness.spec.model_spec import BuildSpec

if TYPE_CHECKING:
    import tensorrt as trt

    from harness.backends.tensorrt.origin import Origin

IMPLICIT_BATCH = (
    "built with an implicit batch dimension, which TensorRT 10 removed: build it again from ONNX, "
    "whose batch is an axis like any other"
)


@dataclass(frozen=True)
class Opened:
    """An engine, the runtime that must outlive it, and what both say."""

    engine: trt.ICudaEngine
    runtime: trt.Runtime
    log: Log


def open_plan(
    bindings: Bindings, plan: Path, device: Device, origin: Origin | None, options: BuildSpec, folder: Path
) -> Opened:
    """Load the plan file.  Raises RunError; then nothing of TensorRT's is left that needs the device."""
    try:
        return _opened(bindings, plan, device, origin, options, folder)
    except (OSError, BackendError) as error:
        traceback.clear_frames(error.__traceback__)  # They hold runtime and engine.
        raise error if isinstance(error, RunError) else RunError(f"{plan}: {error}") from error


def _opened(
    bindings: Bindings, plan: Path, device: Device, origin: Origin | None, options: BuildSpec, folder: Path
) -> Opened:
    log = create_log(bindings.api)
    data = plan.read_bytes()
    runtime = create_runtime(bindings, log, options, folder)
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        version, gpu = str(bindings.api.__version__), device.info().name
        why = trt_errors.not_loaded(origin, version, gpu, log.messages, *device.memory())
        raise RunError(f"{plan}: {why}")
    with deprecated():  # TensorRT 8.6 to 10.x tell
        implicit_batch = getattr(engine, "has_implicit_batch_dimension", False)
    if implicit_batch:
        raise RunError(f"{plan}: {IMPLICIT_BATCH}")
    return Opened(engine, runtime, log)
