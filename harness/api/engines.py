"""`build_engine`, `open_engine`, `compare_layers`, `search_fp32` and `measure_latency`: one engine each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.api.sources import Data, Model, Shapes, opened, plan_of, precision_of
from harness.backends.base import Engine, Face
from harness.engines.engine import BuiltEngine
from harness.errors import BackendUnavailableError, UsageError
from harness.layers.result import Layers
from harness.precision import Precision
from harness.records import Record
from harness.search.case import Proposal
from harness.search.result import Step


def build_engine(
    model: Model,
    precision: Precision | str,
    *,
    backend: str = "auto",
    fp32_nodes: Iterable[str] | None = None,
    data: Data | None = None,
    shapes: Shapes | None = None,
    provider: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> BuiltEngine:
    """The engine of `model` at `precision`, built or from the cache: `.manifest`, `.folder`, `.open()`.

    `backend`: auto, onnxruntime, tensorrt, tensorrt_rtx; the rest is as in `lower`.  What it computes is not
    judged here: `validate` does that.

    Raises BuildError, NotHonouredError, BackendUnavailableError, UsageError.

    >>> import harness
    >>> built = harness.build_engine(mlp, "fp16", backend="onnxruntime")
    >>> str(built.manifest.precision), built.manifest.got["requested"]
    ('fp16', 'fp16')
    """
    given = {"data": data, "shapes": shapes, "backend": backend, "provider": provider, "cache_dir": cache_dir}
    with opened(model, **given) as subject:  # type: ignore[arg-type]
        return subject.engine(plan_of(subject.spec, precision, fp32_nodes))


def open_engine(
    engine: BuiltEngine | str | os.PathLike[str], *, backend: str = "onnxruntime", face: Face = "verified"
) -> Engine:
    """An engine ready to run: a context manager with `.run(feeds) -> outputs`, `.inputs` and `.outputs`.

    `engine`: what `build_engine` returned, or the folder of an engine, whose `backend` must then be named.
    `face`: "verified", what is judged, or "deployed", what is timed; they differ on ONNX Runtime's CPU
    provider.

    Raises RunError, UsageError for a folder that is none.

    >>> import harness
    >>> with harness.open_engine(harness.build_engine(mlp, "fp32", backend="onnxruntime")) as engine:
    ...     engine.run({"x": x})["y"].shape
    (4, 2)
    """
    if isinstance(engine, BuiltEngine):
        return engine.open(face)
    from harness.backends.choose import create

    folder = Path(engine)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of an engine")
    return create(backend).load(folder, face)


def compare_layers(
    model: Model,
    precision: Precision | str,
    *,
    backend: str = "auto",
    data: Data | None = None,
    shapes: Shapes | None = None,
    memory_bytes: int = 512 * 2**20,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Layers:
    """Every intermediate tensor of the engine against the reference's: where error is created, and by what.

    `.layers` in graph order, `.first_over`, `.creators()`.  `memory_bytes` bounds the tensors held at once;
    the rest is as in `build_engine`.

    Raises DataError where there are no layers to compare, BackendError, UsageError.

    >>> import harness
    >>> [layer.place.tensor for layer in harness.compare_layers(mlp, "fp16", backend="onnxruntime").layers]
    ['h', 'r', 'y']
    """
    from harness.layers.case import answer_layers
    from harness.verdict.asking import question

    with opened(model, data=data, shapes=shapes, backend=backend, cache_dir=cache_dir) as subject:
        wanted = precision_of(precision)
        with question(subject, wanted) as asked:
            return answer_layers(asked, subject, subject.engine(wanted), memory_bytes).layers


def search_fp32(
    model: Model,
    precision: Precision | str,
    *,
    tolerance: float | None = None,
    backend: str = "auto",
    data: Data | None = None,
    shapes: Shapes | None = None,
    evaluations: int | None = None,
    seconds: float | None = None,
    tell: Callable[[Step], None] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Proposal:
    """The smallest set of nodes that must stay FP32 for `precision` to pass: `.found`, `.plan.fp32_nodes`.

    `tolerance`: allowed mean relative error, and nothing else (default: the suites' whole rule).
    `evaluations`, `seconds`: stop after so many.  `tell` hears of each evaluation.

    Raises UsageError where there is nothing to search or no set suffices, BackendError.

    >>> import harness
    >>> found = harness.search_fp32(mlp, "fp16", backend="onnxruntime")
    >>> found.found, found.plan.fp32_nodes
    (True, ())
    """
    from harness.search.case import Request, propose
    from harness.search.result import Budget

    with opened(model, data=data, shapes=shapes, backend=backend, cache_dir=cache_dir) as subject:
        asked = Request(precision_of(precision), tolerance, Budget(evaluations, seconds))
        return propose(subject, asked, tell)


def measure_latency(
    model: Model,
    precision: Precision | str = "fp32",
    *,
    backend: str = "auto",
    data: Data | None = None,
    shapes: Shapes | None = None,
    seconds: float = 2.0,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Record]:
    """Latency of the engine as it would be deployed, by profile and batch size, once its outputs were
    compared.

    A record for each, `default-b8` say: `.verdict` is "unverified" where the outputs do not pass; `.data`
    has `p50_s`, `p90_s`, `p99_s` in seconds and `throughput_per_s` in samples.  `seconds`: how long each is
    measured.

    Raises BackendUnavailableError where engines build but do not run, RunError, UsageError.

    >>> import harness
    >>> for record in harness.measure_latency(mlp, backend="onnxruntime", seconds=0.1).values():
    ...     record.verdict, record.data["p50_s"] > 0
    ('pass', True)
    """
    from harness.latency.bench import Bench, LatencyRun
    from harness.latency.measure import Sampling
    from harness.latency.points import points

    with opened(model, data=data, shapes=shapes, backend=backend, cache_dir=cache_dir) as subject:
        wanted = precision_of(precision)
        if why := subject.backend.can_run():
            raise BackendUnavailableError(why)
        built, reference = subject.engine(wanted), subject.reference().outputs
        with built.open("deployed") as engine:
            bench = Bench(subject.spec, subject.spec.terms(wanted), engine, subject.feeds, reference)
            run = LatencyRun(bench, built, subject.backend.info(), Sampling(max_time_s=seconds))
            return {point.id: run.judged(point, run.take(point)) for point in points(subject.spec)}
