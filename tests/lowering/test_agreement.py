"""The emulation on ONNX Runtime agrees, node by node, with NumPy's FP16 on the same lowered graph."""

from __future__ import annotations

import numpy as np
import pytest

from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower
from harness.precision import Precision, PrecisionPlan
from tests.helpers.lowering import model, mre, reference, run

FP16 = PrecisionPlan(Precision.FP16)
RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 4, 6, 6)).astype(np.float32)
W = {
    "w": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32) * np.float32(0.1),
    "b": RNG.standard_normal(4).astype(np.float32),
    "m": RNG.standard_normal((6, 5)).astype(np.float32),
    "c": RNG.random((1, 4, 1, 1)).astype(np.float32) + np.float32(0.5),
    "s": (RNG.random(4) + 0.5).astype(np.float32),
    "one": np.ones(1, np.float32),
    "flat": np.array([2, -1], np.int64),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "two": np.array([3], np.int64),
    "idx": np.array([3, 0, 2], np.int64),
    "sizes": np.array([1.0, 1.0, 2.0, 2.0], np.float32),
    "axes": np.array([1], np.int64),
    "last": np.array([-1], np.int64),
    "reps": np.array([1, 2, 1, 1], np.int64),
}
EXACT = {
    "add": "y = Add(x, c)",
    "sub": "y = Sub(c, x)",
    "mul": "y = Mul(x, c)",
    "div": "y = Div(x, c)",
    "abs": "y = Abs(x)",
    "neg": "y = Neg(x)",
    "relu": "y = Relu(x)",
    "max": "y = Max(x, c)",
    "min": "y = Min(x, c)",
    "sqrt": "t = Abs(x) y = Sqrt(t)",
    "floor": "y = Floor(x)",
    "clip": "h = Squeeze(one) l = Neg(h) y = Clip(x, l, h)",
    "where": "a = Abs(x) t = Less(a, c) y = Where(t, a, c)",
    "concat": "a = Abs(x) y = Concat <axis = 1> (a, a)",
    "transpose": "a = Abs(x) y = Transpose <perm = [0, 2, 3, 1]> (a)",
    "reshape": "a = Abs(x) y = Reshape(a, flat)",
    "gather": "a = Abs(x) y = Gather <axis = 1> (a, idx)",
    "slice": "a = Abs(x) y = Slice(a, axes, two, axes)",
    "pad": "a = Abs(x) y = Pad(a, pads)",
    "tile": "a = Abs(x) y = Tile(a, reps)",
    "maxpool": "a = Abs(x) y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)",
    "globalmax": "y = GlobalMaxPool(x)",
    "resize": 'y = Resize <mode = "nearest"> (x, , sizes)',
    "reducemax": "y = ReduceMax(x, axes)",
    "cast": "t = Cast <to = 7> (x) y = Cast <to = 1> (t)",
}
ROUNDED = {
    "leaky": "y = LeakyRelu <alpha = 0.1> (x)",
    "conv": "y = Conv <pads = [1, 1, 1, 1]> (x, w, b)",
    "matmul": "y = MatMul(x, m)",
    "gemm": "t = Reshape(x, last6) y = Gemm(t, m)",
    "softmax": "y = Softmax <axis = -1> (x)",
    "sigmoid": "y = Sigmoid(x)",
    "tanh": "y = Tanh(x)",
    "exp": "y = Exp(x)",
    "erf": "y = Erf(x)",
    "gelu": "t = Erf(x) u = Add(t, one) v = Mul(x, u) y = Mul(v, c)",
    "pow": "t = Abs(x) y = Pow(t, c)",
    "mean": "y = ReduceMean(x, last)",
    "sum": "y = ReduceSum(x, last)",
    "avgpool": "y = AveragePool <kernel_shape = [3, 3]> (x)",
    "globalavg": "y = GlobalAveragePool(x)",
    "batchnorm": "y = BatchNormalization(x, s, b, b, s)",
    "layernorm": "y = LayerNormalization(x, ln)",
    "einsum": 'y = Einsum <equation = "bchw,wd->bchd"> (x, m)',
    "hardswish": "y = HardSwish(x)",
    "elu": "y = Elu(x)",
    "softplus": "y = Softplus(x)",
    "logsoftmax": "y = LogSoftmax(x)",
    "chain": "t = Conv <pads = [1, 1, 1, 1]> (x, w, b) u = Relu(t) v = Add(u, x) y = MatMul(v, m)",
}
MORE = {"last6": np.array([-1, 6], np.int64), "ln": np.ones(6, np.float32)}


def built(body: str):
    used = {n: a for n, a in {**W, **MORE}.items() if any(n in part.split(", ") for part in arguments(body))}
    return model(f"g (float[2,4,6,6] x) => (float[] y) {{ {body} }}".replace("float[] y", "float y"), **used)


def arguments(body: str):
    return [part.split(")")[0] for part in body.split("(")[1:]]


def both(body: str):
    lowered = lower(built(body), FP16)
    assert lowered.summary.lowered or "Cast" in body
    return run(emulate(lowered), {"x": X}, tensors=True), reference(lowered.model, {"x": X})


@pytest.mark.parametrize("body", EXACT.values(), ids=EXACT.keys())
def test_simple_operators_agree_to_the_bit(body: str) -> None:
    emulated, numpy = both(body)
    for name in set(emulated) & set(numpy):
        np.testing.assert_array_equal(emulated[name], numpy[name], err_msg=name)


@pytest.mark.parametrize("body", ROUNDED.values(), ids=ROUNDED.keys())
def test_sums_and_functions_agree_to_fp16_rounding(body: str) -> None:
    emulated, numpy = both(body)
    for name in set(emulated) & set(numpy):
        scale = float(np.abs(numpy[name].astype(np.float64)).max())
        difference = np.abs(emulated[name].astype(np.float64) - numpy[name].astype(np.float64)).max()
        assert difference <= 4 * 2**-11 * scale, name


@pytest.mark.parametrize("body", ROUNDED.values(), ids=ROUNDED.keys())
def test_rounding_is_real(body: str) -> None:
    exact = run(built(body), {"x": X})["y"]
    emulated = run(emulate(lower(built(body), FP16)), {"x": X})["y"]
    assert 1e-6 < mre(emulated, exact) < 5e-3


def test_emulation_overflows_where_plain_onnx_runtime_does_not() -> None:
    squares = model("g (float[8] x) => (float[] y) { t = Mul(x, x) y = ReduceSum <keepdims = 0> (t) }")
    lowered = lower(squares, FP16)
    feeds = {"x": np.full(8, 200, np.float32)}
    assert np.isinf(run(emulate(lowered), feeds)["y"])
    assert run(lowered.model, feeds, optimised=True)["y"] == pytest.approx(320000)
