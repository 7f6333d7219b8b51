"""Range pre-flight: what a 16-bit format cannot hold of a model on the given data, found before any build.

1. Looked at are the FP32 tensors that the plan holds in 16 bits: what lowered nodes make and what they read.
2. One FP32 run for each set of feeds gives their extremes; no tensor is kept.  Infinities of the FP32
   model itself do not count.
3. A tensor overflows where |x| exceeds the format's largest number, and vanishes where all of it lies below
   the smallest normal one.  The same goes for weights; a node whose weight overflows stays FP32.
4. Tensors in subgraphs cannot be read from outside: they are counted, and not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from harness.backends.base import Tensors
from harness.comparison.value_range import Format, format_of
from harness.engines.reference import feeds_digest
from harness.errors import RunError
from harness.graph import file as onnx_file
from harness.graph.walk import all_graphs
from harness.isolation.parent import isolated
from harness.lowering.emulation.extremes import extremes_model
from harness.lowering.model import LoweredModel
from harness.lowering.weights import magnitude
from harness.paths import scratch
from harness.precision import Precision, PrecisionPlan
from harness.verdict.range_report import Extent, RangeReport
from harness.verdict.tasks import feeds_needed

if TYPE_CHECKING:
    from harness.engines.subject import Subject
    from harness.storage.cache import JSON

Scalars = Mapping[str, float]
Run = Callable[[ir.Model, Sequence[str], Iterable[Tensors]], Sequence[Scalars]]
"""Runs a model on each set of feeds and gives the named scalars."""
HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
FORMAT = 2
"""Version of what the cache keeps."""


def check_ranges(
    normalised: ir.Model, lowered: LoweredModel, feeds: Iterable[Tensors], run: Run | None = None
) -> RangeReport:
    """Hold the FP32 model on `feeds` against what `lowered` holds in 16 bits.

    Raises RunError where the model does not run.
    """
    plan = lowered.plan
    names = list(dict.fromkeys(_held_in_16_bits(normalised, lowered.model)))
    unseen = _in_subgraphs(lowered.model)
    if not names:
        return RangeReport(str(plan.precision), unseen=unseen)
    largest, count = _largest(normalised, names, feeds, run or run_here)
    form = format_of(plan.precision)
    extents = list(_extents(normalised, largest))
    return RangeReport(
        str(plan.precision),
        overflow=tuple(one for one in extents if one.largest > form.largest),
        vanish=tuple(one for one in extents if 0 < one.largest < form.smallest),
        weights_overflow=lowered.summary.overflow,
        weights_vanish=tuple(_vanishing(normalised, lowered.summary.underflow, form)),
        feeds=count,
        unseen=unseen,
    )


def ranges_of(subject: Subject, what: Precision | PrecisionPlan) -> RangeReport:
    """The report of a subject under a plan, at the opt shape of its first profile; kept in the cache.

    The model runs in a process of its own: nothing has been tried on it yet.  Raises UsageError, CacheError.
    """
    plan = what if isinstance(what, PrecisionPlan) else subject.plan(what)
    precision = plan.precision
    if precision.half is None:
        return RangeReport(str(precision))
    shapes = subject.spec.profiles[0].at("opt")
    rows, count = subject.feeds.rows(shapes), feeds_needed(subject.feeds, shapes)
    feeds = [subject.feeds.feed(shapes, index * rows) for index in range(count)]
    key: dict[str, JSON] = {
        **subject.cpu_key,
        "format": FORMAT,
        "plan": plan.digest(),
        "feeds": [feeds_digest(feed) for feed in feeds],
    }

    def make(_folder: Any) -> Mapping[str, Any]:
        return check_ranges(subject.normalised, subject.lowered(plan), feeds, run_apart).to_json()

    label = f"{subject.spec.name}[{precision}] ranges"
    try:
        return RangeReport.from_json(subject.cache.get_or_make("ranges", key, make, label=label).manifest)
    except RunError as error:
        return RangeReport(str(precision), reason=str(error))


def run_here(model: ir.Model, names: Sequence[str], feeds: Iterable[Tensors]) -> list[Scalars]:
    """A `Run` in this process."""
    from harness.backends.onnxruntime.backend import SessionSettings, open_model

    with open_model(model, names, settings=SessionSettings(level="none")) as runner:
        return [{name: float(value) for name, value in runner.run(feed).items()} for feed in feeds]


def run_apart(model: ir.Model, names: Sequence[str], feeds: Iterable[Tensors]) -> list[Scalars]:
    """A `Run` in a child process."""
    with scratch() as folder:
        path = folder / "model.onnx"
        onnx_file.write(model, path)
        return isolated(_run_file, path, tuple(names), list(feeds), reuse=True)


def _run_file(path: Path, names: Sequence[str], feeds: Iterable[Tensors]) -> list[Scalars]:
    return run_here(onnx_file.read(path), names, feeds)


def _held_in_16_bits(normalised: ir.Model, lowered: ir.Model) -> Iterator[str]:
    """FP32 tensors of the main graph that the lowered graph has in 16 bits, in its order."""
    own = {node.name: node for node in normalised.graph}
    made = (value for node in normalised.graph for value in node.outputs if value.name)
    ends = (*normalised.graph.inputs, *made)
    known = {value.name or "" for value in ends if value.dtype == ir.DataType.FLOAT}
    for node in lowered.graph:
        for index, value in enumerate(node.outputs):
            if value.dtype not in HALVES:
                continue
            twin = own.get(node.name)
            source = twin.outputs[index] if twin else node.inputs[0]
            if source is not None and source.name in known:
                yield source.name


def _in_subgraphs(lowered: ir.Model) -> int:
    inner = (graph for graph in all_graphs(lowered) if graph is not lowered.graph)
    return sum(value.dtype in HALVES for graph in inner for node in graph for value in node.outputs)


def _largest(
    normalised: ir.Model, names: list[str], feeds: Iterable[Tensors], run: Run
) -> tuple[dict[str, float], int]:
    model, probes = extremes_model(normalised, names)
    runs = run(model, [name for probe in probes for name in (probe.largest, probe.smallest)], feeds)
    found = {}
    for probe in probes:
        sizes = (abs(ends[name]) for ends in runs for name in (probe.largest, probe.smallest))
        found[probe.tensor] = max((size for size in sizes if math.isfinite(size)), default=0.0)
    return found, len(runs)


def _extents(normalised: ir.Model, largest: Mapping[str, float]) -> Iterator[Extent]:
    for value in normalised.graph.inputs:
        if (name := value.name or "") in largest:
            yield Extent(name, largest[name])
    for node in normalised.graph:
        for value in node.outputs:
            if (name := value.name or "") in largest:
                yield Extent(name, largest[name], node.name or "", node.op_type)


def _vanishing(normalised: ir.Model, names: Iterable[str], form: Format) -> Iterator[str]:
    weights = {name: v for graph in all_graphs(normalised) for name, v in graph.initializers.items()}
    for name in names:
        tensor = weights[name].const_value if name in weights else None
        if tensor is not None and 0 < magnitude(tensor).largest < form.smallest:
            yield name
