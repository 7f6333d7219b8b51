"""The task metric of a spec over its labelled data, for any runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Tensors
from harness.data.arrays import data_error
from harness.data.inputs import Feeds, labels
from harness.data.samples import Spool
from harness.errors import DataError, shorten
from harness.spec.model_spec import ModelSpec, Shape
from harness.spec.user_code import load_function

Outputs = Mapping[str, NDArray[Any]]
Metric = Callable[[Outputs, NDArray[Any]], float]
Run = Callable[[Tensors], Outputs]


@dataclass(frozen=True)
class Task:
    """A metric, more is better, of outputs by name and labels; `outputs` are those that it reads."""

    metric: Metric
    labels: NDArray[Any]
    outputs: tuple[str, ...]

    def score(self, run: Run, feeds: Feeds, shapes: Mapping[str, Shape]) -> float:
        """The metric of what `run` gives, fed with every labelled sample in feeds of `shapes`."""
        count = len(self.labels)
        parts = [run(feed) for feed in _feeds(feeds, shapes, count)]
        outputs = {n: joined([part[n] for part in parts], count) for n in self.outputs}
        return _number(self.metric(outputs, self.labels))


@dataclass(frozen=True)
class Accuracy:
    """The metric of the reference and of the engine on `samples` labelled samples."""

    metric: str
    reference: float
    engine: float
    allowed_drop: float
    samples: int

    @property
    def drop(self) -> float:
        """How much the engine loses; negative where it gains."""
        return self.reference - self.engine

    @property
    def passes(self) -> bool:
        """Whether the drop is within the allowance; a metric that is NaN never is."""
        # One part in a billion: 0.987 - 0.982 is more than 0.005 in binary.
        return bool(self.drop <= self.allowed_drop + 1e-9)

    def explain(self, label: str, reproduce: str) -> str:
        """What, got, allowed, context, command."""
        return (
            f"{label}: {self.metric} {self.engine:.4f}, a drop of {self.drop:.4f} > {self.allowed_drop:.4f}\n"
            f"  the FP32 reference has {self.reference:.4f}, on the same {self.samples} samples\n"
            f"  reproduce: {reproduce}"
        )

    def data(self) -> dict[str, Any]:
        """The record's `data`, as reports/README.md describes it."""
        return {**vars(self), "drop": self.drop}


def task_of(spec: ModelSpec, output_names: tuple[str, ...], *, allow_code: bool = True) -> Task | None:
    """The task of `spec`, None if it has none.  Raises SpecError, DataError; UsageError for refused code."""
    if spec.task is None:
        return None
    wanted = labels(spec, allow_code=allow_code)
    names = (spec.task.output,) if spec.task.output else output_names
    if spec.task.metric == "top1":
        if wanted.size != len(wanted) or wanted.dtype.kind not in "iuf":
            rule = f"labels are {wanted.dtype} of shape {wanted.shape}, must be one number for each sample"
            raise data_error(spec, "task.metric", "top1", rule)
        if not (wanted == np.floor(wanted)).all():
            raise data_error(spec, "task.metric", "top1", "labels must be whole numbers: classes")
        return Task(_named(spec, _first(top1)), wanted.reshape(-1), names[:1])
    metric = load_function(spec, "task.metric", spec.task.metric, allow_code=allow_code)
    return Task(metric, wanted, names)


def _named(spec: ModelSpec, metric: Metric) -> Metric:
    """`metric` with the spec's file in the errors that it raises."""

    def measure(outputs: Outputs, wanted: NDArray[Any]) -> float:
        try:
            return metric(outputs, wanted)
        except DataError as error:
            raise DataError(f"{spec.path or spec.name}: {error}") from None

    return measure


def top1(scores: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The share of samples, 0 to 1, whose largest score is at the label; a row with NaN is wrong.

    An output of one integer for each sample is the class itself.  Raises DataError where an output has one
    float for each sample, or a label has no score.
    """
    rows = scores.reshape(len(wanted), -1)
    classes = rows.shape[1]
    if classes == 1 and rows.dtype.kind in "iub":
        return float(np.mean(rows[:, 0] == wanted))
    if classes == 1:
        raise DataError("task: the output has one number a sample, top1 needs a score for each class")
    low, high = wanted.min(), wanted.max()
    if low < 0 or high >= classes:
        raise DataError(f"task: labels are {low} to {high}, the output has {classes} classes")
    finite = np.isfinite(rows).all(axis=1)
    return float(np.mean(finite & (np.argmax(rows, axis=1) == wanted)))


def joined(parts: list[NDArray[Any]], samples: int) -> NDArray[Any]:
    """Outputs of several feeds as one with `samples` rows; those that do not count samples are stacked.

    Raises DataError where rows and samples do not fit.
    """
    rows = sum(part.shape[0] for part in parts if part.ndim)
    if len(parts) >= samples and rows != len(parts):
        return np.stack(parts)[:samples]
    whole = np.concatenate(parts) if rows else np.stack(parts)
    if len(whole) < samples:
        raise DataError(
            f"task: an output has {len(whole)} rows for {samples} samples: axis 0 must count them"
        )
    return whole[:samples]


def _number(found: object) -> float:
    try:
        return float(found)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise DataError(f"task.metric: returned {shorten(found)}, must return a number") from error


def _first(metric: Callable[[NDArray[Any], NDArray[Any]], float]) -> Metric:
    return lambda outputs, wanted: metric(next(iter(outputs.values())), wanted)


def kept(run: Run, spool: Spool) -> Run:
    """`run`, whose outputs are added to `spool`."""

    def keep(feed: Tensors) -> Outputs:
        outputs = run(feed)
        spool.append(outputs)
        return outputs

    return keep


def _feeds(feeds: Feeds, shapes: Mapping[str, Shape], samples: int) -> Iterator[Tensors]:
    return (feeds.feed(shapes, start) for start in range(0, samples, feeds.rows(shapes)))
