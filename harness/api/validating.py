"""`validate`: what the suites say of one model, as data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.api import suites
from harness.api.report import Report
from harness.api.sources import (
    Data,
    Model,
    Shapes,
    data_file,
    path_of,
    precision_of,
    three_shapes,
    tolerance_from,
    workplace,
)
from harness.drafting.resolve import is_model
from harness.errors import UsageError
from harness.precision import Precision, Tolerance
from harness.spec.file import find_spec, read_spec, write_spec
from harness.spec.model_spec import ModelSpec, Shape


def validate(
    model: Model,
    *,
    precisions: Iterable[Precision | str] | Precision | str | None = None,
    backend: str = "auto",
    data: Data | None = None,
    shapes: Shapes | None = None,
    tolerance: Tolerance | float | None = None,
    checks: Sequence[str] = (),
    provider: str | None = None,
    strict: bool = False,
    allow_code: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Report:
    """The verdict on `model` at each precision: does an engine still compute the model?

    The same checks, and the same records, as `pytest suites/` makes, in a process of its own.

    `model`: an ONNX file, a spec or its folder, or a model in memory.  `precisions`: words such as "fp16"
    (default: those of the spec; without one fp32, fp16 and int8).  `backend`: auto, onnxruntime, tensorrt,
    tensorrt_rtx.  `data`: an npz file, or arrays by input name, samples along the batch axis (default: the
    spec's, or generated).  `shapes`: by input name one shape, or smallest, usual and largest.  `tolerance`:
    allowed mean relative error, or a Tolerance (default: the spec's, or the table's).  `checks`: some of
    engines, outputs, accuracy, layers, loop, metamorphic, latency (default: all).  `strict`: the expected
    error is the limit. `allow_code=False`: refuse specs that run code.

    Raises UsageError for what is wrong with these, BackendUnavailableError, BackendError.

    >>> import harness
    >>> report = harness.validate(mlp, precisions=["fp32", "fp16"], data={"x": x}, checks=["outputs"])
    >>> report.verdicts
    {'fp32': 'pass', 'fp16': 'pass'}
    >>> bool(report), report.rows["fp16"].mre < 1e-3
    (True, True)
    """
    suites.require_known("checks", checks)
    with workplace() as folder:
        arguments = [
            *_subject(model, folder),
            *_precisions(precisions),
            *_given(data_file(data, folder), three_shapes(shapes), tolerance),
            f"--trt-backend={backend}",
            *([f"--trt-provider={provider}"] if provider else []),
            *([f"--trt-cache-dir={Path(cache_dir).absolute()}"] if cache_dir else []),
            *(["--trt-strict"] if strict else []),
            *([] if allow_code else ["--trt-no-code"]),
        ]
        return _ran(suites.SuiteRun(arguments, folder / "reports", tuple(checks)), folder)


def _ran(run: suites.SuiteRun, folder: Path) -> Report:
    from harness.report import results

    neutral = folder / "neutral"
    neutral.mkdir()
    done = suites.execute(run, neutral, quiet=True)
    suites.require_fine(done)
    written = sorted(run.report_dir.glob(f"*/{results.RESULTS}"))
    if not written:
        raise UsageError("nothing to test: no check fits what was chosen")
    return Report(results.read(written[-1]))


def _subject(model: Model, folder: Path) -> Iterator[str]:
    where = path_of(model, folder)
    if isinstance(where, ModelSpec):
        yield f"--trt-spec={_file_of(where, folder).absolute()}"
    elif is_model(where):
        yield f"--trt-onnx={Path(where).absolute()}"
    else:
        yield f"--trt-spec={find_spec(where).absolute()}"


def _file_of(spec: ModelSpec, folder: Path) -> Path:
    """The file of a spec: its own if that says the same, else one in `folder`."""
    if spec.path is not None and read_spec(spec.path) == spec:
        return spec.path
    return write_spec(spec, folder / "spec.toml")


def _precisions(given: Iterable[Precision | str] | Precision | str | None) -> Iterator[str]:
    words = [given] if isinstance(given, str) else given or ()
    return (f"--trt-precision={precision_of(word)}" for word in words)


def _given(
    data: Path | None,
    shapes: dict[str, tuple[Shape, Shape, Shape]],
    tolerance: Tolerance | float | None,
) -> Iterator[str]:
    if data is not None:
        yield f"--trt-data={data.absolute()}"
    for name, three in shapes.items():
        yield f"--trt-shape={name}=" + ":".join("x".join(map(str, shape)) for shape in three)
    if allowed := tolerance_from(tolerance):
        parts = allowed.model_dump(exclude_none=True)
        yield "--trt-tolerance=" + ",".join(f"{key}={value!r}" for key, value in parts.items())
