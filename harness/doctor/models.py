"""Tiny networks for first contact with a runtime, and what NumPy computes for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from harness.lowering.passes.normalise import normalise
from harness.spec.model_spec import Profile, ShapeRange

WIDTH, HIDDEN, OUT = 64, 64, 8
FP8_LARGEST = 448.0
BLOCK = 32


def rows(low: int, usual: int, high: int, name: str = "p", width: int = WIDTH) -> Profile:
    """A profile of `x` with that many rows."""
    part = ShapeRange(min=(low, width), opt=(usual, width), max=(high, width))
    return Profile(name=name, shapes={"x": part})


def feed(count: int, width: int = WIDTH) -> NDArray[Any]:
    """That many rows of numbers between -1 and 1, always the same."""
    return np.random.default_rng(count).uniform(-1, 1, (count, width)).astype(np.float32)


def weights() -> dict[str, NDArray[Any]]:
    """Weights of the two products, of the size that keeps activations near 1."""
    rng = np.random.default_rng(7)
    return {
        "w": rng.uniform(-0.2, 0.2, (WIDTH, HIDDEN)).astype(np.float32),
        "v": rng.uniform(-0.2, 0.2, (HIDDEN, OUT)).astype(np.float32),
    }


def network(static: int | None = None) -> ir.Model:
    """Two products with a Relu between: nodes `first`, `relu`, `second`, tensors `h` and `r`."""
    size = "N" if static is None else str(static)
    text = f"""g (float[{size}, {WIDTH}] x) => (float[{size}, {OUT}] y)
        {{ [first] h = MatMul (x, w) [relu] r = Relu (h) [second] y = MatMul (r, v) }}"""
    return normalise(model(text, weights()))


def hidden(x: NDArray[Any]) -> NDArray[Any]:
    """The tensor `r` of `network`, in float64."""
    found: NDArray[Any] = np.maximum(x.astype(np.float64) @ weights()["w"], 0)
    return found


def output(x: NDArray[Any]) -> NDArray[Any]:
    """The output of `network`, in float64."""
    found: NDArray[Any] = hidden(x) @ weights()["v"]
    return found


def model(text: str, constants: Mapping[str, NDArray[Any]]) -> ir.Model:
    """A model of opset 19 from ONNX's text form, with `constants` as initializers."""
    parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 19]>\n{text}')
    parsed.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return ir.serde.deserialize_model(parsed)


def indices() -> ir.Model:
    """Where `x` is not zero: the number of rows depends on the data, and may be 0."""
    text = "g (float[N, 4] x) => (int64[K, 2] y) { t = NonZero (x) y = Transpose (t) }"
    return normalise(model(text, {}))


def reshaped() -> ir.Model:
    """`x` in the shape that another input holds."""
    text = "g (float[N, 4] x, int64[2] n) => (float[A, B] y) { y = Reshape (x, n) }"
    return normalise(model(text, {}))


def fp8() -> ir.Model:
    """One product of FP8 operands, scaled per tensor, quantized in the graph."""
    scale = {"sx": 1 / FP8_LARGEST, "sw": float(np.abs(weights()["w"]).max()) / FP8_LARGEST}
    zero = helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], [0.0])
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in scale.items()]
    nodes = [
        helper.make_node(op, [given, f"s{of}", "zero"], [made], made)
        for op, given, of, made in (
            ("QuantizeLinear", "x", "x", "qx"), ("DequantizeLinear", "qx", "x", "dx"),
            ("QuantizeLinear", "w", "w", "qw"), ("DequantizeLinear", "qw", "w", "dw"),
        )
    ]  # fmt: skip
    return _product([*nodes, helper.make_node("MatMul", ["dx", "dw"], ["y"], "first")],
                    [zero, *constants, numpy_helper.from_array(weights()["w"], "w")], 19)  # fmt: skip


def fp8_output(x: NDArray[Any]) -> NDArray[Any]:
    """What `fp8` gives, in float64."""
    w = weights()["w"]
    found: NDArray[Any] = _fp8(x, 1 / FP8_LARGEST) @ _fp8(w, float(np.abs(w).max()) / FP8_LARGEST)
    return found


def _fp8(values: NDArray[Any], scale: float) -> NDArray[Any]:
    scaled = values / np.float32(scale)
    return scaled.astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * np.float32(scale)


def int4_codes() -> NDArray[Any]:
    """INT4 weights of `int4`, as integers."""
    return np.random.default_rng(5).integers(-8, 8, (WIDTH, HIDDEN)).astype(np.int8)


def int4() -> ir.Model:
    """One product whose weights are INT4, with a scale for each block of 32."""
    packed = helper.make_tensor("w4", TensorProto.INT4, [WIDTH, HIDDEN], int4_codes().reshape(-1).tolist())
    scales = numpy_helper.from_array(np.full((WIDTH // BLOCK, HIDDEN), 0.03125, np.float32), "s")
    opened = helper.make_node("DequantizeLinear", ["w4", "s"], ["dw"], "open", axis=0, block_size=BLOCK)
    return _product([opened, helper.make_node("MatMul", ["x", "dw"], ["y"], "first")], [packed, scales], 21)


def int4_output(x: NDArray[Any]) -> NDArray[Any]:
    """What `int4` gives, in float64."""
    found: NDArray[Any] = x.astype(np.float64) @ (int4_codes() * 0.03125)
    return found


def _product(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], opset: int) -> ir.Model:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", HIDDEN])
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return ir.serde.deserialize_model(made)
