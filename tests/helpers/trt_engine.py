"""Small engines on doubles: a model, its profiles, its feeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from harness.backends.tensorrt.run.engine import TensorRTEngine
from harness.spec.model_spec import Profile, ShapeRange
from tests.helpers.lowering import model

TWO = "g (float[N, 4] x) => (float[N, 4] y, float[N, 1] s) { y = Relu (x) s = ReduceSum (x, axes) }"
COUNT = "g (float[N, 4] x) => (int64[K, 2] y) { t = NonZero (x) y = Transpose (t) }"


def relu_and_sum() -> ir.Model:
    return model(TWO, axes=np.array([1], np.int64))


def profile(low: int, high: int, name: str = "p") -> Profile:
    return Profile(name=name, shapes={"x": ShapeRange(min=(low, 4), opt=(low, 4), max=(high, 4))})


PROFILES = (profile(1, 4, "small"), profile(4, 16, "large"))
Opener = Callable[..., TensorRTEngine]


def ramp(rows: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.linspace(-1, 1, rows * 4, dtype=np.float32).reshape(rows, 4)
