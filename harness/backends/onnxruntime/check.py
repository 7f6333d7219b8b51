"""Whether this ONNX Runtime does the rounding that a graph asks for.

Its CPU provider computes FP16 in FP32 between Casts, and some versions delete the Casts that a user wrote.
Reduced precision is judged by such Casts here, so a runtime that deletes them must not be used.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from harness.backends.cuda.gpu_facts import cpu_name
from harness.backends.onnxruntime import probes
from harness.backends.onnxruntime.models import run_model
from harness.backends.onnxruntime.session import SessionSettings
from harness.errors import BackendUnavailableError
from harness.options import default_cache_dir
from harness.precision import Precision
from harness.storage.cache import JSON, Cache

LEVELS = ("none", "basic")
"""Optimisation levels that emulations run at."""
PROBES = {ir.DataType.FLOAT16: (1.2e5, np.inf), ir.DataType.BFLOAT16: (1.0 + 2.0**-9, 1.0)}
CODE = ("backends/onnxruntime/*.py", "lowering/*.py", "lowering/emulation/*.py", "lowering/passes/*.py")


def emulation_level(precision: Precision) -> str:
    """The optimisation level at which an emulation keeps its rounding; higher levels fuse it away.

    Raises BackendUnavailableError where `precision` rounds to 16 bits and this runtime does not.
    """
    if precision.half is not None:
        self_test()
    return "none" if precision.quantized else "basic"


@functools.cache
def self_test() -> None:
    """Prove that Casts written by hand really round, and that rounding stays around each operator.

    Proven once for each version of the runtime, processor and code of the emulation; the cache keeps the
    proof.  Raises BackendUnavailableError with the version of ONNX Runtime.
    """
    key = {"runtime": ort.__version__, "cpu": cpu_name(), "code": _code()}
    Cache(default_cache_dir()).get_or_make("rounding", key, _proof, label="rounding")


def prove() -> None:
    """Run the proof.  Raises BackendUnavailableError with the version of ONNX Runtime."""
    for dtype in PROBES:
        for level in LEVELS:
            for fault in chain(_cast_faults(dtype, level), _operator_faults(dtype, level)):
                raise BackendUnavailableError(
                    f"ONNX Runtime {ort.__version__} removes Casts that the graph has: {fault} through "
                    f"{dtype.name} at level {level!r}; install another version of onnxruntime"
                )


def _proof(folder: Path) -> Mapping[str, JSON]:  # noqa: ARG001 - that there is an entry is all it says
    prove()
    return {"operators": sorted(probes.OPERATORS), "levels": list(LEVELS)}


def _code() -> str:
    root, found = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in root.glob(pattern)):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _cast_faults(dtype: ir.DataType, level: str) -> Iterator[str]:
    value, rounded = PROBES[dtype]
    got = _round_trip(dtype, value, level)
    if not np.all(got == np.float32(rounded)):
        yield f"{value!r} gives {got.tolist()}, must be {rounded}"


def _operator_faults(dtype: ir.DataType, level: str) -> Iterator[str]:
    model = probes.emulated(dtype)
    got = run_model(model, probes.ones(model), settings=SessionSettings(level=level))
    for name, array in got.items():
        operator, kind = name.split("/")
        if not np.all(array == np.float32(probes.EXPECTED[kind])):
            wrong = array[array != np.float32(probes.EXPECTED[kind])][0]
            yield f"{operator} ({kind}) of rounded ones gives {wrong}, must be {probes.EXPECTED[kind]}"


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
