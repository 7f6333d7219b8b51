"""The trials of first contact: one function for each feature of a runtime that the harness uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from harness.backends.base import CalibrationData, Engine, Tensors
from harness.backends.tensorrt.audit.record import PLAN, TASK
from harness.backends.tensorrt.layers import count_precisions
from harness.doctor import models
from harness.doctor.bench import AbsentError, Bench, DiffersError, OnlyBuiltError
from harness.doctor.models import feed, hidden, network, output, rows
from harness.errors import BuildError, RunError
from harness.precision import Precision

Trial = Callable[[Bench], None]
TRIALS: dict[str, Trial] = {}
ADA = (8, 9)
KEPT = ("second",)


def trial(name: str) -> Callable[[Trial], Trial]:
    """Enters a function among the trials."""

    def entered(function: Trial) -> Trial:
        TRIALS[name] = function
        return function

    return entered


@trial("static shapes")
def _static(bench: Bench) -> None:
    bench.build(network(2), (rows(2, 2, 2),))
    bench.near("run", bench.run({"x": feed(2)})["y"], output(feed(2)))


@trial("dynamic shapes")
def _dynamic(bench: Bench) -> None:
    bench.build(network(), (rows(1, 2, 4),))
    for count in (1, 4, 2):
        bench.near(f"run, {count} rows", bench.run({"x": feed(count)})["y"], output(feed(count)))


@trial("two profiles")
def _profiles(bench: Bench) -> None:
    bench.build(network(), (rows(1, 2, 4, "small"), rows(8, 8, 16, "large")))
    for count, profile in ((3, 0), (16, 1), (1, 0)):
        found = bench.run({"x": feed(count)}, profile)["y"]
        bench.near(f"run at profile {profile}", found, output(feed(count)))


def _built_indices(bench: Bench) -> None:
    """Raises AbsentError where the parser has no NonZero, as that of TensorRT-RTX 1.7 has none."""
    try:
        bench.build(models.indices(), (rows(1, 2, 4, width=4),))
    except BuildError as error:
        if "NonZero" in str(error):
            raise AbsentError(str(error)) from error
        raise


@trial("output whose shape depends on data")
def _data_dependent(bench: Bench) -> None:
    _built_indices(bench)
    given = np.array([[0, 1, 0, 2], [3, 0, 0, 0]], np.float32)
    found = bench.run({"x": given})["y"]
    bench.same("run", found.tolist(), np.argwhere(given).tolist())


@trial("empty tensor")
def _empty(bench: Bench) -> None:
    _built_indices(bench)
    found = bench.run({"x": np.zeros((2, 4), np.float32)})["y"]
    bench.same("shape of the output", found.shape, (0, 2))


@trial("input that holds a shape")
def _shape_input(bench: Bench) -> None:
    """Its values need ranges, which specs do not have: it must be refused, and by name."""
    both = rows(4, 4, 4, width=4)
    shapes = {**both.shapes, "n": replace_range(both.shapes["x"], (2,))}
    try:
        bench.build(models.reshaped(), (both.model_copy(update={"shapes": shapes}),))
    except BuildError as error:
        if "hold shapes" not in str(error):
            raise DiffersError("build", str(error), "inputs ['n'] hold shapes") from error
        return
    raise DiffersError("build", "an engine", "a refusal: inputs ['n'] hold shapes")


def replace_range(part: Any, shape: tuple[int, ...]) -> Any:
    """A range of one shape alone."""
    return part.model_copy(update={"min": shape, "opt": shape, "max": shape})


def _at(precision: Precision) -> Trial:
    def tried(bench: Bench) -> None:
        bench.build(network(), (rows(1, 2, 4),), precision)
        bench.near("run", bench.run({"x": feed(4)})["y"], output(feed(4)), precision)

    return tried


for _precision in (Precision.FP16, Precision.BF16, Precision.INT8, Precision.INT8_FP16):
    TRIALS[f"{_precision} in the graph"] = _at(_precision)


def _targets(bench: Bench) -> dict[str, Any]:
    """FP8 needs an Ada GPU or a later one.  Raises AbsentError."""
    if bench.backend.bindings.rtx and bench.backend.can_run():
        return {"compute_capabilities": ["8.9"]}
    here = bench.backend.info().details.get("compute_capability", "")
    if here and tuple(map(int, here.split("."))) < ADA:
        raise AbsentError(f"needs compute capability 8.9, this GPU has {here}")
    return {}


@trial("fp8 in the graph")
def _fp8(bench: Bench) -> None:
    bench.build(models.fp8(), (rows(1, 2, 4),), **_targets(bench))
    found = bench.run({"x": feed(4)})["y"]
    bench.near("run", found, models.fp8_output(feed(4)), Precision.FP16)


@trial("int4 weights in the graph")
def _int4(bench: Bench) -> None:
    bench.build(models.int4(), (rows(1, 2, 4),))
    bench.near("run", bench.run({"x": feed(4)})["y"], models.int4_output(feed(4)), Precision.FP16)


@trial("fp32 islands")
def _islands(bench: Bench) -> None:
    audit = bench.build(network(), (rows(1, 2, 4),), Precision.FP16, KEPT)
    bench.same("nodes kept in FP32", audit.fp32_kept, KEPT)
    if audit.unknown:
        raise DiffersError("audit", "; ".join(audit.unknown), "the precision of every kept node")
    bench.near("run", bench.run({"x": feed(4)})["y"], output(feed(4)), Precision.FP16)


def _require_weak(bench: Bench) -> None:
    if not bench.weak:
        raise AbsentError("networks are strongly typed")


@trial("weak typing: fp16 by flag")
def _weak(bench: Bench) -> None:
    _require_weak(bench)
    bench.build(network(), (rows(1, 2, 4),), Precision.FP16, KEPT, typing="weak")
    bench.near("run", bench.run({"x": feed(4)})["y"], output(feed(4)), Precision.FP16)


def _batches() -> Iterator[Tensors]:
    yield from ({"x": feed(2) * part} for part in (1.0, 0.5, 0.9))


@trial("weak typing: int8 by calibrator")
def _calibrated(bench: Bench) -> None:
    _require_weak(bench)
    if why := bench.backend.can_run():
        raise OnlyBuiltError(f"calibration runs on the GPU: {why}")
    data = CalibrationData("entropy", _batches, 2)
    audit = bench.build(network(), (rows(1, 2, 4),), Precision.INT8, calibration=data, typing="weak")
    bench.near("run", bench.run({"x": feed(4)})["y"], output(feed(4)), Precision.INT8)
    if audit.unknown:
        raise DiffersError("audit", "; ".join(audit.unknown), "types of all layers")


def _instrumented(marking: Any) -> Trial:
    def tried(bench: Bench) -> None:
        bench = replace(bench, backend=replace(bench.backend, instrumentation=marking))
        bench.build(network(), (rows(1, 2, 4),))
        if marking != "marked outputs" and not hasattr(bench.backend.bindings.api, "IDebugListener"):
            raise AbsentError("there is no debug listener before TensorRT 10.0")
        engine = _opened(bench, "r")
        try:
            found = dict(engine.run({"x": feed(4)}))
        finally:
            engine.close()
        bench.near("output beside it", found["y"], output(feed(4)))
        if "r" in found or marking != "unfused tensors":  # fusion may have left nothing of that name
            bench.near("tensor r", found["r"], hidden(feed(4)))

    return tried


def _opened(bench: Bench, tensor: str) -> Engine:
    """The engine built again with `tensor` to be seen.  Raises OnlyBuiltError where it does not run here."""
    try:
        return bench.backend.load_instrumented(bench.folder / "engine", [tensor])
    except RunError as error:
        if (why := bench.backend.can_run()) and "cannot run here" in str(error):
            raise OnlyBuiltError(why) from error
        raise


for _marking in ("marked outputs", "debug tensors", "unfused tensors"):
    TRIALS[f"intermediate tensors: {_marking}"] = _instrumented(_marking)


@trial("timing cache")
def _timing(bench: Bench) -> None:
    cache = bench.folder / "timing"
    bench = replace(bench, backend=replace(bench.backend, timing_folder=cache))
    if bench.backend.bindings.rtx:
        raise AbsentError("TensorRT-RTX has no use for one")
    bench.build(network(), (rows(1, 2, 4),))
    (file,) = cache.glob("*.timing")
    before = file.stat().st_size
    bench.build(network(), (rows(1, 2, 4),), name="again")
    if not 0 < before <= file.stat().st_size:
        raise DiffersError("timing cache", f"{before}, then {file.stat().st_size} bytes", "a file that grows")


@trial("version-compatible plan")
def _compatible(bench: Bench) -> None:
    bench.build(network(), (rows(1, 2, 4),), version_compatible=True)
    bench.near("run", bench.run({"x": feed(4)})["y"], output(feed(4)))


@trial("plan that is damaged, or of another version")
def _foreign(bench: Bench) -> None:
    bench.build(network(), (rows(1, 2, 4),))
    folder = bench.folder / "engine"
    _refused(bench, "it is no plan that", b"garbage" * 512)
    record = json.loads((folder / TASK).read_text())
    record["origin"]["version"] = "0.0.1"
    (folder / TASK).write_text(json.dumps(record))
    _refused(bench, "the plan was built by", b"garbage" * 512)


def _refused(bench: Bench, says: str, data: bytes) -> None:
    (bench.folder / "engine" / PLAN).write_bytes(data)
    try:
        bench.open().close()
    except RunError as error:
        if says not in str(error):
            raise DiffersError("load", str(error), f"{says} ...") from error
        return
    raise DiffersError("load", "an engine", f"{says} ...")


@trial("runs between device buffers")
def _resident(bench: Bench) -> None:
    bench.build(network(), (rows(1, 2, 4),))
    engine: Any = bench.open()
    try:
        runs = engine.residents([{"x": feed(4)}, {"x": feed(4) / 2}])
        for run in (*runs, *runs):
            run()
        for run, part in zip(runs, (1, 2), strict=True):
            bench.near("device run", run.fetch()["y"], output(feed(4) / part))
    finally:
        engine.close()


@trial("two engines, each on its own stream")
def _streams(bench: Bench) -> None:
    bench.build(network(), (rows(1, 2, 4),), name="one")
    bench.build(network(), (rows(1, 2, 4),), Precision.FP16, name="two")
    one, two = bench.open("one"), bench.open("two")
    try:
        for count in (1, 4, 2):
            bench.near("first engine", one.run({"x": feed(count)})["y"], output(feed(count)))
            bench.near("second engine", two.run({"x": feed(count)})["y"], output(feed(count)), Precision.FP16)
    finally:
        two.close()
        one.close()


@trial("inspector, and the audit of its layers")
def _inspector(bench: Bench) -> None:
    audit = bench.build(network(), (rows(1, 2, 4),), Precision.FP16)
    if audit.unknown:
        raise DiffersError("audit", "; ".join(audit.unknown), "nothing that is not known")
    engine: Any = bench.open()
    try:
        found = count_precisions(engine.facts().layers)
    finally:
        engine.close()
    bench.same("precisions that the inspector tells", found, dict(audit.nodes))
