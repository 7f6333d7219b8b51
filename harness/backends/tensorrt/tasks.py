"""What is to be built, from a request or from the record of an earlier build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.backends.base import BuildRequest, CalibrationData
from harness.backends.tensorrt.audit.record import CALIBRATION
from harness.backends.tensorrt.builder.build import Aids, BuildTask, NetworkCode
from harness.backends.tensorrt.builder.calibration import parse
from harness.backends.tensorrt.builder.fence import PRODUCTS
from harness.backends.tensorrt.builder.names import barred, inner_tensors
from harness.errors import BuildError, HarnessError
from harness.graph.walk import all_nodes
from harness.lowering.model import LoweredModel
from harness.lowering.refusals import tensorrt_refusals
from harness.precision import Precision
from harness.spec.errors import one_line
from harness.spec.model_spec import BuildSpec


def task_of(request: BuildRequest, options: BuildSpec) -> BuildTask:
    """The task of a request, with `options` for the machine that is here."""
    return BuildTask(
        precision=request.lowered.plan.precision,
        profiles=request.profiles,
        options=options,
        kept=kept_by_plan(request.lowered),
        base=request.base.resolve(),
        network=NetworkCode(request.network, request.weights) if request.network else None,
        barred=barred(request.lowered.model),
        inner=inner_tensors(request.lowered.model),
    )


def again(folder: Path, task: BuildTask) -> tuple[BuildTask, Aids]:
    """What builds the engine in `folder` again: weak INT8 from the calibration cache that its build wrote.

    Raises BuildError where there is none.
    """
    if task.options.typing == "strong" or not task.precision.quantized:
        return task, Aids()
    written = folder / CALIBRATION
    cache = written if written.is_file() else task.base / (task.options.calibration_cache or CALIBRATION)
    try:
        method = parse(cache.read_text(), cache).method
    except (OSError, HarnessError) as error:
        raise BuildError(f"no calibration cache to build it again from: {one_line(error)}") from error
    options = task.options.model_copy(update={"calibration_cache": str(cache.resolve())})
    return replace(task, options=options), Aids(calibration=CalibrationData(method, lambda: ()))


def refusals(lowered: LoweredModel, options: BuildSpec, *, rtx: bool) -> list[str]:
    """What TensorRT would refuse in the model; plugins, where there are any, may bring any domain."""
    domains = {node.domain for node in all_nodes(lowered.model.graph)}
    plugins = frozenset(domains) if options.plugins else frozenset[str]()
    return tensorrt_refusals(lowered.model, plugins, rtx=rtx)


def kept_by_plan(lowered: LoweredModel) -> tuple[str, ...]:
    """The ONNX nodes that must be FP32 in the engine, in graph order.

    Those that the plan keeps, and products that stay FP32 because 16 bits cannot hold their weights.
    """
    plan, kept = lowered.plan, lowered.summary.kept
    if plan.precision in (Precision.FP32, Precision.TF32):
        return ()
    names = ((node.name or "", node.op_type) for node in all_nodes(lowered.model.graph))
    return tuple(n for n, op_type in names if n in kept and (plan.keeps(n, op_type) or op_type in PRODUCTS))
