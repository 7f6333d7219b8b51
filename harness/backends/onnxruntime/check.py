"""Whether this ONNX Runtime does the rounding that a graph asks for.

Its CPU provider computes FP16 in FP32 between Casts, and some versions delete the Casts that a user wrote.
Reduced precision is judged by such Casts here, so a runtime that deletes them must not be used.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from harness.backends.onnxruntime.models import run_model
from harness.backends.onnxruntime.session import SessionSettings
from harness.errors import BackendUnavailableError

LEVELS = ("none", "basic")
PROBES = {ir.DataType.FLOAT16: (1.2e5, np.inf), ir.DataType.BFLOAT16: (1.0 + 2.0**-9, 1.0)}


@functools.cache
def self_test() -> None:
    """Prove once per process that Casts written by hand really round, between nodes and at outputs.

    Raises BackendUnavailableError with the version of ONNX Runtime.
    """
    for dtype, (value, rounded) in PROBES.items():
        for level in LEVELS:
            got = _round_trip(dtype, value, level)
            if not np.all(got == np.float32(rounded)):
                raise BackendUnavailableError(
                    f"ONNX Runtime {ort.__version__} removes Casts that the graph has: {value!r} through "
                    f"{dtype.name} at level {level!r} gives {got.tolist()}, must be {rounded}; "
                    "install another version of onnxruntime"
                )


def _round_trip(
    dtype: ir.DataType, value: float, level: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    feeds = {"x": np.array([value, -value], np.float32)}
    got = run_model(_probe(dtype), feeds, settings=SessionSettings(level=level))
    return np.concatenate([np.abs(got["direct"]), np.abs(got["between"])])


def _probe(dtype: ir.DataType) -> ir.Model:
    """x -> Cast -> Cast -> direct, and -> Neg -> Cast -> Cast -> Neg -> between."""
    x = ir.val("x", ir.DataType.FLOAT, [2])
    nodes, direct = _there_and_back(x, dtype, "direct")
    negated = ir.node("Neg", [x])
    more, rounded = _there_and_back(negated.outputs[0], dtype, "rounded")
    back = ir.node("Neg", [rounded])
    back.outputs[0].name = "between"
    outputs = [direct, back.outputs[0]]
    for output in outputs:
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([2])
    every = [*nodes, negated, *more, back]
    graph = ir.Graph([x], outputs, nodes=every, opset_imports={"": 19}, name="self_test")
    return ir.Model(graph, ir_version=10)


def _there_and_back(value: ir.Value, dtype: ir.DataType, name: str) -> tuple[list[ir.Node], ir.Value]:
    there = ir.node("Cast", [value], attributes={"to": int(dtype)})
    back = ir.node("Cast", [there.outputs[0]], attributes={"to": int(ir.DataType.FLOAT)})
    back.outputs[0].name = name
    return [there, back], back.outputs[0]
