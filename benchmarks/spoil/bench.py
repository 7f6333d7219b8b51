"""One model at one precision with everything that judging needs, each thing computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.spoil.engines import Kept, KeptFeeds, KeptReference, Spoiler, Spoilt
from harness.backends.base import Engine
from harness.backends.onnxruntime.backend import OnnxRuntimeBackend, SessionSettings, open_model
from harness.engines.subject import Subject
from harness.loops.feeding import streamed
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.spec.model_spec import ModelSpec, Shape
from harness.storage.cache import Cache
from harness.tasks.accuracy import Task, task_of


@dataclass(frozen=True)
class Bench:
    """`right` is the engine as the backend built it; `outputs` are those that are judged as numbers."""

    subject: Subject
    precision: Precision
    right: Kept
    reference: KeptReference

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return self.subject.spec

    @property
    def label(self) -> str:
        """`name[precision]`."""
        return f"{self.spec.name}[{self.precision}]"

    @property
    def feeds(self) -> KeptFeeds:
        """The spec's data."""
        return self.subject.feeds  # type: ignore[return-value]

    @cached_property
    def ranges(self) -> tuple[Mapping[str, Any], ...]:
        """The shape ranges of each profile."""
        return tuple(profile.shapes for profile in self.spec.profiles)

    def spoilt(self, spoiler: Spoiler, at: float, engine: Engine | None = None) -> Spoilt:
        """An engine with a fault; `at`, in [0, 1), says where."""
        names = self.subject.output_names
        target = names[int(at * 997) % len(names)]
        return Spoilt(engine or self.right, spoiler, target, at, self.ranges)

    @property
    def opt(self) -> dict[str, Shape]:
        """The opt shapes of the first profile."""
        return self.spec.profiles[0].at("opt")

    @cached_property
    def task(self) -> Task | None:
        """The task metric, where the spec has one."""
        return task_of(self.spec, self.subject.output_names)

    @cached_property
    def reference_score(self) -> float:
        """The FP32 reference's task metric."""
        assert self.task is not None
        with open_model(
            self.subject.exact, self.subject.output_names, settings=SessionSettings(level="none")
        ) as fp32:
            return self.score(Kept(fp32))

    def score(self, engine: Engine) -> float:
        """The task metric of an engine, its states handed on where the spec has a loop."""
        assert self.task is not None
        return self.task.score(streamed(self.spec, self.feeds, engine.run), self.feeds, self.opt)


def subject_of(path: Any, cache: Cache) -> Subject:
    """The subject of a spec file on ONNX Runtime's CPU provider; nothing is tried in a process apart."""
    spec = read_spec(path)
    subject = Subject(spec, OnnxRuntimeBackend(isolate=False), cache)
    subject.__dict__["feeds"] = KeptFeeds(spec)
    return subject


@contextmanager
def benches(subject: Subject, precisions: tuple[Precision, ...]) -> Iterator[Iterator[Bench]]:
    """A bench for each of the spec's `precisions`, one open at a time."""
    reference = KeptReference(subject.reference())
    try:
        yield (
            one for p in precisions if p in subject.spec.precisions for one in _opened(subject, p, reference)
        )
    finally:
        reference.close()


def _opened(subject: Subject, precision: Precision, reference: KeptReference) -> Iterator[Bench]:
    with subject.engine(precision).open("verified") as engine:
        yield Bench(subject, precision, Kept(engine), reference)
