"""`lower`, `emulate` and `calibrate`: what becomes of a model at a precision, without any engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.api.sources import Data, Model, Shapes, opened, plan_of, precision_of
from harness.calibration.model import Calibration
from harness.data.override import parts_of, validated
from harness.errors import UsageError
from harness.lowering import model as lowering
from harness.precision import Precision

if TYPE_CHECKING:
    from harness.engines.subject import Subject

METHODS = ("minmax", "percentile", "entropy", "mse", "auto")


@dataclass(frozen=True)
class LoweredModel(lowering.LoweredModel):
    """An ONNX graph with a precision in it: `model` (of `onnx_ir`), its `plan`, and `summary` of what was
    done.

    Names of nodes and tensors are those of the model that it was made from.
    """

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as an ONNX file that strongly typed builders take, FP32 products fenced; returns the path.

        Weights beyond 1.5 GB go to a file beside it, `<name>.data`.  Raises OSError.
        """
        from harness.backends.tensorrt.builder.fence import fence
        from harness.graph import file as onnx_file

        onnx_file.write(fence(self.model), Path(path))
        return Path(path)


def lower(
    model: Model,
    precision: Precision | str,
    *,
    fp32_nodes: Iterable[str] | None = None,
    data: Data | None = None,
    shapes: Shapes | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> LoweredModel:
    """`model` with `precision` written into its graph, as strongly typed TensorRT wants it.

    `model`: an ONNX file, a spec or a model in memory.  `precision`: fp32, tf32, fp16, bf16, int8,
    int8+fp16. `fp32_nodes`: names or globs of nodes that stay FP32 (default: the spec's).  `data`: what INT8
    is calibrated on, arrays by input name, samples along the batch axis (default: the spec's, or generated
    numbers).

    Raises UsageError for a pattern that no node matches, ModelError, DataError.

    >>> import harness
    >>> lowered = harness.lower(mlp, "fp16", fp32_nodes=["fc*"])
    >>> sorted(lowered.summary.kept)
    ['fc1', 'fc2']
    >>> lowered.save("mlp-fp16.onnx").name
    'mlp-fp16.onnx'
    """
    with opened(model, data=data, shapes=shapes, cache_dir=cache_dir) as subject:
        made = subject.lowered(plan_of(subject.spec, precision, fp32_nodes))
    return LoweredModel(made.model, made.plan, made.summary)


def emulate(lowered: lowering.LoweredModel, feeds: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """Outputs by name of a lowered model, with every rounding of its precision made real.

    `feeds`: an array for each input, of the model's dtypes and shapes.  It runs on ONNX Runtime's CPU
    provider, which by itself hides what 16 bits do.  Raises RunError.

    >>> import harness
    >>> y = harness.emulate(harness.lower(mlp, "bf16"), {"x": x})["y"]
    >>> y.shape, str(y.dtype)
    ((4, 2), 'float32')
    """
    from harness.comparison.emulated_error import emulation_opener
    from harness.lowering.emulation.emulate import emulate as emulated

    names = tuple(str(value.name) for value in lowered.model.graph.outputs)
    opener = emulation_opener(lowered.plan.precision)
    with opener(emulated(lowered), names) as engine:
        found: dict[str, NDArray[Any]] = engine.run({name: np.asarray(a) for name, a in feeds.items()})
    return found


def calibrate(
    model: Model,
    data: Data | None = None,
    *,
    precision: Precision | str = "int8",
    method: str | None = None,
    percentile: float | None = None,
    samples: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Calibration:
    """Ranges of the activations that a quantized `precision` needs: `.ranges`, largest magnitude by tensor
    name.

    `data`: as in `lower`.  `method`: minmax, percentile, entropy, mse or auto; `percentile`: above 50, up to
    100; `samples`: how many are used at most (defaults: the spec's, else percentile, 99.99 and 32).

    Raises DataError without a sample, UsageError, ModelError.

    >>> import harness
    >>> sorted(harness.calibrate(mlp, {"x": x}, method="minmax").ranges)
    ['r', 'x']
    """
    wanted = precision_of(precision)
    if method is not None and method not in METHODS:
        raise UsageError(f"method = {method!r}: must be one of {', '.join(METHODS)}")
    with opened(model, data=data, cache_dir=cache_dir) as subject:
        own = {"method": method, "percentile": percentile, "samples": samples}
        return _with_calibration(subject, wanted, own).calibration(wanted)


def _with_calibration(subject: Subject, precision: Precision, own: Mapping[str, object]) -> Subject:
    """`subject` with what `own` names of the calibration of `precision`."""
    given = {key: value for key, value in own.items() if value is not None}
    if not given:
        return subject
    spec, own_part = subject.spec, subject.spec.of(precision)
    calibration = {**parts_of(own_part.calibration), **given}
    changed = {**spec.precision, precision: {**parts_of(own_part), "calibration": calibration}}
    return replace(subject, spec=validated(spec, {**parts_of(spec), "precision": changed}))
