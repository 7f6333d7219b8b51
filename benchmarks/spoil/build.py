"""Engines of edited models: lowered and emulated with the plan and the ranges of the right model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import onnx_ir as ir

from benchmarks.spoil.bench import Bench
from benchmarks.spoil.edits import EDITS, SCALES, Edit
from benchmarks.spoil.engines import Kept
from harness.backends.onnxruntime.backend import SessionSettings, emulation_level, open_model
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower
from harness.lowering.model import LoweredModel
from harness.precision import Precision


@contextmanager
def edited(bench: Bench, name: str, at: float) -> Iterator[Kept | None]:
    """The engine of the model with an edit; None where the model has nothing that the edit changes.

    Raises HarnessError, RuntimeError and the like where the edited model is not valid.
    """
    edit, early = EDITS.get(name), name in EDITS
    before = edit if early else None
    if not early and not bench.precision.quantized:
        yield None
        return
    model = changed(bench.subject.normalised, before, at) if before else bench.subject.normalised
    lowered = None if model is None else _lowered(bench, model)
    if lowered is not None and not early:
        late = changed(lowered.model, SCALES[name], at)
        lowered = None if late is None else replace(lowered, model=late)
    if lowered is None:
        yield None
        return
    with opened(bench, lowered) as engine:
        yield engine


def changed(model: ir.Model, edit: Edit, at: float) -> ir.Model | None:
    """A copy of `model` with the edit; None where there is nothing to change."""
    proto = ir.to_proto(model)
    return ir.from_proto(proto) if edit(proto, at) else None


def _lowered(bench: Bench, model: ir.Model) -> LoweredModel:
    plan = bench.subject.plan(bench.precision)
    return lower(model, plan, bench.subject.ranges(plan))


@contextmanager
def opened(bench: Bench, lowered: LoweredModel, level: str = "") -> Iterator[Kept]:
    """The engine of a lowered model, as the backend would open it on the CPU."""
    usual = "all" if bench.precision is Precision.FP32 else emulation_level(bench.precision)
    settings = SessionSettings(level=level or usual)
    with open_model(emulate(lowered), bench.subject.output_names, settings=settings) as engine:
        yield Kept(engine)
