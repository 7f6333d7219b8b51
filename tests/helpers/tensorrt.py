"""Small models for the TensorRT backends, and the real TensorRT-RTX bindings where they are installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from harness.backends.base import BuildRequest
from harness.backends.tensorrt.bindings import Bindings, load_bindings
from harness.errors import BackendUnavailableError
from harness.graph import file as onnx_file
from harness.lowering.lower import lower, quantizable
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import BuildSpec, Profile, ShapeRange
from tests.helpers.lowering import model

CLASSIFIER = """classifier (float[N, 3, H, W] x) => (float[N, 10] y) {
    [conv] c = Conv <pads = [1, 1, 1, 1]> (x, w)
    [relu] r = Relu (c)
    [pool] p = GlobalAveragePool (r)
    [flat] f = Flatten (p)
    [fc] m = MatMul (f, v)
    [softmax] y = Softmax (m)
}"""
SMALL = Profile(
    name="small", shapes={"x": ShapeRange(min=(1, 3, 8, 8), opt=(2, 3, 16, 16), max=(4, 3, 32, 32))}
)
LARGE = Profile(
    name="large", shapes={"x": ShapeRange(min=(4, 3, 8, 8), opt=(8, 3, 8, 8), max=(16, 3, 16, 16))}
)


def rtx() -> Bindings:
    """The TensorRT-RTX bindings; the test is skipped where they are not installed."""
    try:
        return load_bindings("tensorrt_rtx")
    except BackendUnavailableError as error:
        pytest.skip(str(error))


def classifier() -> ir.Model:
    """A normalised CNN of six nodes: conv, relu, pool, flat, fc, softmax."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(8, 3, 3, 3)), "v": rng.normal(size=(8, 10))}
    return model(CLASSIFIER, **{name: array.astype(np.float32) for name, array in weights.items()})


def request(
    precision: Precision,
    kept: tuple[str, ...] = (),
    profiles: tuple[Profile, ...] = (SMALL,),
    source: ir.Model | None = None,
    **options: object,
) -> BuildRequest:
    """A request for `source`, or the classifier, lowered with a range of 1 for every activation."""
    source = source or classifier()
    plan = PrecisionPlan(precision, kept)
    targets = quantizable(source, plan) if precision.quantized else ()
    ranges = {name: 1.0 for target in targets for name in target.activations}
    lowered = lower(source, plan, ranges)
    return BuildRequest("cnn", lowered, profiles, BuildSpec.model_validate(options))


def write(folder: Path, source: ir.Model) -> Path:
    """The ONNX file of `source` in `folder`."""
    path = folder / "model.onnx"
    onnx_file.write(source, path)
    return path
