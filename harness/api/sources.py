"""What the public functions take for a model, its data and its precision, and what that means."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from harness.data.override import Override, tolerance_of
from harness.drafting.resolve import resolve
from harness.errors import DataError, UsageError, shorten
from harness.options import Options, cache_folder
from harness.precision import TOLERANCES, Precision, PrecisionPlan, Tolerance
from harness.spec.model_spec import ModelSpec, Shape, ToleranceSpec
from harness.spec.terms import Terms

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from harness.engines.subject import Subject

Model: TypeAlias = "str | os.PathLike[str] | ModelSpec | onnx.ModelProto | ir.Model"
"""An ONNX file, a spec or the folder of one by path; a spec; a model in memory, of `onnx` or `onnx_ir`."""
Data: TypeAlias = "str | os.PathLike[str] | Mapping[str, ArrayLike]"
"""An npz or npy file by path, or an array for each input by name."""
Shapes: TypeAlias = "Mapping[str, Sequence[int] | Sequence[Sequence[int]]]"
"""By input name: one shape, or the smallest, usual and largest."""


def precision_of(word: Precision | str) -> Precision:
    """The precision called `word`.  Raises UsageError."""
    if word not in set(Precision):
        raise UsageError(f"precision = {word!r}: must be one of {', '.join(Precision)}")
    return Precision(word)


def tolerance_from(given: Tolerance | float | None) -> ToleranceSpec | None:
    """`given` as a spec has it; of a number, which is the limit, the table knows the rest.

    Raises UsageError.
    """
    if given is None:
        return None
    if isinstance(given, Tolerance):
        return tolerance_of(given.limit, expected=given.expected, row=given.row, element=given.element)
    return tolerance_of(float(given))


def terms_of(precision: Precision | str, given: Tolerance | float | None) -> Terms:
    """What arrays of `precision` are judged by: the table, or the tolerance that is given."""
    known, own = precision_of(precision), tolerance_from(given)
    if own is None or own.limit is None:
        return Terms.of(known)
    expected = min(own.expected or TOLERANCES[known].expected, own.limit)
    return Terms(known, Tolerance(expected, own.limit, own.row, own.element))


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder for what a call writes on its way."""
    with tempfile.TemporaryDirectory(prefix="trt-harness-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def data_file(data: Data | None, folder: Path) -> Path | None:
    """`data` as a file; arrays are written into `folder`.  Raises DataError."""
    if data is None or isinstance(data, (str, os.PathLike)):
        return None if data is None else Path(data)
    arrays = {name: np.asarray(array) for name, array in data.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject or array.dtype.kind in "USV":
            raise DataError(f"data[{name!r}]: dtype {array.dtype}: must be an array of numbers")
    file = folder / "data.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file


def three_shapes(shapes: Shapes | None) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Smallest, usual and largest shape by input name.  Raises UsageError."""
    return {name: _three(name, given) for name, given in (shapes or {}).items()}


def _three(name: str, given: Sequence[Any]) -> tuple[Shape, Shape, Shape]:
    nested = [isinstance(part, Sequence) for part in given]
    if any(nested) and (not all(nested) or len(given) != 3):
        raise UsageError(f"shapes[{name!r}] = {given!r}: must be one shape, or three: min, opt, max")
    parts = (
        [tuple(int(size) for size in part) for part in given] if any(nested) else [tuple(map(int, given))] * 3
    )
    return parts[0], parts[1], parts[2]


def path_of(model: Model, folder: Path) -> str | os.PathLike[str] | ModelSpec:
    """`model` as a path or a spec; a model in memory is written into `folder`."""
    if isinstance(model, (str, os.PathLike, ModelSpec)):
        return model
    path = folder / "model.onnx"
    _write(model, path)
    return path


def _write(model: object, path: Path) -> None:
    import onnx
    import onnx_ir as ir

    from harness.graph import file as onnx_file

    if isinstance(model, ir.Model):
        onnx_file.write(model, path)
    elif isinstance(model, onnx.ModelProto):
        onnx.save(model, path)
    else:
        kinds = "an ONNX file or spec by path, a ModelSpec, an onnx.ModelProto or an onnx_ir.Model"
        raise UsageError(f"model = {shorten(model)}: must be {kinds}")


def spec_of(model: Model, folder: Path, override: Override | None = None) -> ModelSpec:
    """The spec of `model` with `override` in it; drafted where it has none.  Raises UsageError."""
    where = path_of(model, folder)
    if isinstance(where, ModelSpec):
        return (override or Override()).applied(where)
    return resolve(where, override)


@contextmanager
def opened(
    model: Model,
    *,
    data: Data | None = None,
    shapes: Shapes | None = None,
    tolerance: Tolerance | float | None = None,
    backend: str = "onnxruntime",
    provider: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Iterator[Subject]:
    """What is derived from `model` on `backend`.  Raises UsageError, BackendUnavailableError."""
    from harness.backends.choose import create
    from harness.engines.subject import Subject
    from harness.storage.cache import Cache

    with workplace() as folder:
        override = Override(data_file(data, folder), three_shapes(shapes), tolerance_from(tolerance))
        spec = spec_of(model, folder, override)
        place = cache_folder("cache_dir", cache_dir)
        options = Options(backend=backend, provider=provider, cache_dir=place)
        yield Subject(spec, create(backend, provider=provider), Cache(place), options)


def plan_of(spec: ModelSpec, precision: Precision | str, fp32_nodes: Iterable[str] | None) -> PrecisionPlan:
    """The spec's plan for `precision`, or one that keeps `fp32_nodes`.  Raises UsageError."""
    plan = spec.plan(precision_of(precision))
    if fp32_nodes is None:
        return plan
    if isinstance(fp32_nodes, str):
        raise UsageError(f"fp32_nodes = {fp32_nodes!r}: must be a list of names or globs, not one text")
    return replace(plan, fp32_nodes=tuple(fp32_nodes))
