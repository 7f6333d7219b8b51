"""A two-layer perceptron of three nodes: fc1, act, fc2."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from harness.backends.base import BuildRequest
from harness.lowering.lower import lower
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import BuildSpec, Profile
from tests.helpers.lowering import model

RNG = np.random.default_rng(0)
MLP = """
mlp (float[N,8] x) => (float[N,4] y) {
  [fc1] a = MatMul(x, w1)
  [act] b = Relu(a)
  [fc2] y = MatMul(b, w2)
}
"""
WEIGHTS = {
    "w1": RNG.normal(size=(8, 16)).astype(np.float32),
    "w2": RNG.normal(size=(16, 4)).astype(np.float32),
}
FEEDS = {"x": RNG.normal(size=(3, 8)).astype(np.float32)}
EXPECTED = np.maximum(FEEDS["x"].astype(np.float64) @ WEIGHTS["w1"], 0) @ WEIGHTS["w2"]
PROFILES = (Profile.model_validate({"shapes": {"x": {"min": [1, 8], "opt": [2, 8], "max": [4, 8]}}}),)


def made_mlp() -> ir.Model:
    return model(MLP, **WEIGHTS)


def request_of(mlp: ir.Model, precision: Precision, **options: Any) -> BuildRequest:
    ranges = {"x": 3.0, "b": 10.0} if precision.quantized else None
    lowered = lower(mlp, PrecisionPlan(precision), ranges)
    return BuildRequest("mlp", lowered, PROFILES, BuildSpec.model_validate(options))


def relative(actual: Any, expected: Any = EXPECTED) -> float:
    return float(np.abs(actual.astype(np.float64) - expected).sum() / np.abs(expected).sum())
