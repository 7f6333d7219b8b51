"""The layer-wise comparison of one case: a subject's engine on real data at one shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from harness.backends.base import NOTHING, Engine, Shapes
from harness.comparison.explain import explain
from harness.comparison.histogram import tensor_histogram
from harness.comparison.result import OutputsComparison
from harness.comparison.severity import severity
from harness.engines.engine import BuiltEngine
from harness.engines.subject import Subject
from harness.graph.walk import values_of
from harness.layers.compare import LayerQuestion, Opener, compare_layers
from harness.layers.explain import explain as explain_layers
from harness.layers.explain import to_json, warnings
from harness.layers.result import Layers
from harness.precision import PrecisionPlan
from harness.records import fails
from harness.spec.model_spec import Shape
from harness.verdict.question import Question
from harness.verdict.shown import Shown
from harness.verdict.tasks import Task, fed, tasks_of
from harness.verdict.triage import Triage

Outputs = Mapping[str, NDArray[Any]]


@runtime_checkable
class Slicer(Protocol):
    """A backend that can run the part of an engine between given and wanted tensors."""

    def slices(self, folder: Path) -> Opener:
        """What opens parts of the engine in `folder`.  Raises RunError."""


@runtime_checkable
class Chooser(Protocol):
    """A backend whose engines cannot show every tensor of the graph."""

    def showable(self, folder: Path) -> Collection[str]:
        """Names of the tensors that an engine in `folder` can show.  Raises RunError."""


FAR = 10.0
"""How many times the limit a layer is off that is told beside a verdict which passes."""
HISTOGRAMS = 4
"""Tensors of which histograms are kept, at most."""


@dataclass(frozen=True)
class LayerAnswer:
    """What the plain engine's outputs say, which decides, and what its layers show, which explains."""

    at: Task
    found: OutputsComparison
    triage: Triage
    layers: Layers
    histograms: Sequence[Mapping[str, Any]] = ()

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shapes that were run."""
        return self.at.case.shapes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the layers, and layers out of tolerance behind outputs that are within it."""
        first = self.layers.first_over
        if first is None or fails(self.triage.verdict):
            return warnings(self.layers)
        count = len(self.layers.over)
        many = "1 tensor is" if count == 1 else f"{count} tensors are"
        where = f"'{first.place.tensor}' ({first.place.op_type})"
        hidden = f"{many} out of tolerance although the outputs are not; first: {where}"
        return (hidden, *warnings(self.layers))

    @property
    def caveats(self) -> tuple[str, ...]:
        """Layers far out of tolerance behind outputs that are within it, in a few words."""
        far = [one for one in self.layers.over if one.error > FAR * self.layers.tolerance.limit]
        if not far or fails(self.triage.verdict):
            return ()
        return (f"{len(far)} of {len(self.layers.layers)} layers are far out of tolerance",)

    def explain(self, label: str, reproduce: str) -> str:
        """Outputs and layers in one text; the command that reproduces it comes last."""
        outputs = explain(self.found, label, context=(self.triage.advice,) if self.triage.advice else ())
        return f"{outputs}\n{explain_layers(self.layers, label, reproduce=reproduce)}"

    def data(self) -> dict[str, Any]:
        """The record's `data`, as reports/README.md describes it."""
        head = {"mre": self.found.mre, "advice": self.triage.advice, "histograms": list(self.histograms)}
        return {**head, **to_json(self.layers)}


def answer_layers(
    question: Question,
    subject: Subject,
    built: BuiltEngine,
    memory_bytes: int,
    progress: Callable[[str], None] | None = None,
    at: Task | None = None,
) -> LayerAnswer:
    """Compare outputs and layers at the shape and samples of `at`, by default at the first profile's opt.

    Outputs are judged on all samples of it, so that the suites say the same; layers on its worst feed.
    """
    at = at or _usual(question)
    feeds, profile = fed(at, question.feeds), at.profile
    shown = Shown.by(question, profile, feeds)
    place = _worst(shown)
    asked = _question(question, subject, built, feeds[place], shown.actual[place], memory_bytes)
    asked = replace(asked, profile=profile)
    layers = compare_layers(asked, progress)
    return LayerAnswer(at, shown.found, shown.triage, layers, _histograms(asked, layers))


def _usual(question: Question) -> Task:
    shapes = question.spec.profiles[0].at("opt")
    return next(t for t in tasks_of(question.spec, question.feeds) if t.case.shapes == shapes)


def _worst(shown: Shown) -> int:
    """The feed whose outputs are furthest off."""
    pairs = zip(shown.actual, shown.expected, strict=True)
    found = [shown.question.compared([actual], [expected]) for actual, expected in pairs]
    return max(range(len(found)), key=lambda index: severity(found[index]))


def _histograms(asked: LayerQuestion, layers: Layers) -> list[dict[str, Any]]:
    """Values and errors of the tensors that a reader asks about first, run once more for it."""
    wanted = [layers.first_over, layers.first_non_finite, *layers.creators(HISTOGRAMS)]
    places = {layer.place.tensor: layer.place for layer in wanted if layer is not None}
    places = dict(list(places.items())[:HISTOGRAMS])
    if not places:
        return []
    with asked.reference(tuple(places)) as reference, asked.engine(tuple(places)) as engine:
        expected, actual = reference.run(asked.feeds), engine.run(asked.feeds, asked.profile)
    return [
        {"tensor": name, "node": place.node, "op_type": place.op_type}
        | tensor_histogram(actual[name], expected[name]).to_json()
        for name, place in places.items()
        if actual[name].shape == expected[name].shape
    ]


def _question(
    question: Question,
    subject: Subject,
    built: BuiltEngine,
    feeds: Outputs,
    outputs: Outputs,
    memory_bytes: int,
) -> LayerQuestion:
    from harness.backends.onnxruntime.slices import SliceOpener

    plan: PrecisionPlan = subject.plan(question.precision)
    values = (v for v in values_of(subject.lowered(plan).model.graph) if v.name)
    typed = [(v.name or "", v.dtype) for v in values if v.dtype is None or not v.dtype.is_string()]
    offered = {name: 4 if dtype is None else math.ceil(dtype.bitwidth / 8) for name, dtype in typed}
    backend = subject.backend
    if isinstance(backend, Chooser):
        shown = backend.showable(built.folder)
        offered = {name: size for name, size in offered.items() if name in shown or name in outputs}

    def engine(tensors: Sequence[str], _: Outputs = NOTHING, __: Shapes = NOTHING, /) -> Engine:
        return built.open_instrumented(tensors)

    return LayerQuestion(
        subject.normalised,
        offered,
        question.terms,
        feeds,
        SliceOpener(subject.normalised),
        backend.slices(built.folder) if isinstance(backend, Slicer) else engine,
        outputs,
        backend.instrumentation,
        memory_bytes,
        sliced=isinstance(backend, Slicer),
    )
