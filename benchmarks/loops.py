"""A loop forced and free, beside the bare runs that it needs.

    python -m benchmarks.loops

Bound: 256 steps cost at most 1.2 times the bare runs (a step: one of the reference, two of the engine), on a
model of 10 ms a step and more.  The bare runs are those of the loop itself, each timed by itself.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.backends.base import Tensors
from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.comparison.emulated_error import open_cpu
from harness.engines.subject import Subject
from harness.loops.question import loop_question
from harness.loops.run import run_sequence
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.storage.cache import Cache

STEPS, BOUND, WIDTH, LAYERS, ROUNDS = 256, 1.2, 1536, 6, 3
SPEC = f"""
name = "deep"
[model]
onnx = "model.onnx"
[inputs.x]
dtype = "float32"
data = {{ generator = "normal" }}
[inputs.state]
dtype = "float32"
data = {{ generator = "normal" }}
[[profiles]]
shapes.x = [8, {WIDTH}]
shapes.state = [8, {WIDTH}]
[loop]
steps = {STEPS}
feed = {{ state_out = "state" }}
series = ["x"]
"""


def model() -> onnx.ModelProto:
    """A recurrent network of LAYERS dense layers."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32)
    weights = [numpy_helper.from_array(matrix, f"w{k}") for k in range(LAYERS)]
    nodes = [helper.make_node("Add", ["x", "state"], ["h0"], "in")]
    for k in range(LAYERS):
        out = "state_out" if k == LAYERS - 1 else f"h{k + 1}"
        nodes += [
            helper.make_node("MatMul", [f"h{k}", f"w{k}"], [f"m{k}"], f"m{k}"),
            helper.make_node("Tanh", [f"m{k}"], [out], f"t{k}"),
        ]
    x, state, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, WIDTH])
        for name in ("x", "state", "state_out")
    )
    graph = helper.make_graph(nodes, "deep", [x, state], [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Timed:
    """A run that adds up the seconds it takes."""

    def __init__(self, run: Callable[..., Tensors]) -> None:
        self._run, self.seconds = run, 0.0

    def __call__(self, *args: object) -> Tensors:
        """The run itself."""
        start = time.perf_counter()
        found = self._run(*args)
        self.seconds += time.perf_counter() - start
        return found


def measured(folder: Path) -> tuple[float, float]:
    """Seconds of the loop, and of the runs in it."""
    onnx.save(model(), folder / "model.onnx")
    (folder / "spec.toml").write_text(SPEC)
    subject = Subject(read_spec(folder / "spec.toml"), OnnxRuntimeBackend(), Cache(folder / "cache"))
    names = subject.output_names
    with (
        open_cpu(subject.exact, names) as engine,
        loop_question(subject, Precision.FP32, engine, emulated=True) as asked,
    ):
        reference, own = Timed(asked.reference), Timed(asked.engine)
        start = time.perf_counter()
        run_sequence(replace(asked, reference=reference, engine=own))
        return time.perf_counter() - start, reference.seconds + own.seconds


def main() -> None:
    """Measure, print, and fail above the bound."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = [measured(Path(folder)) for _ in range(ROUNDS)]
    ratios = [whole / bare for whole, bare in rounds]
    per_run = min(bare for _, bare in rounds) / (3 * STEPS - 1)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"{STEPS} steps, {1e3 * per_run:.1f} ms a run: {spread} times the bare runs")
    if sorted(ratios)[len(ratios) // 2] > BOUND:
        raise SystemExit(f"more than {BOUND} times")


if __name__ == "__main__":
    main()
