"""Writes model.onnx: a GRU over one time step with a linear head, its state as input and output.

    python suites/models/gru_steps/make.py

Needs onnx.  Weights are seeded; the update gate's bias makes the memory about 20 steps long, so that what one
step gets wrong is still seen many steps later.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
INPUTS, HIDDEN, CLASSES, SEED, KEPT = 16, 64, 8, 11, 3.0


def weights() -> dict[str, np.ndarray]:
    """Gates in ONNX's order: update, reset, hidden."""
    rng = np.random.default_rng(SEED)
    bias = np.zeros((1, 6 * HIDDEN), np.float32)
    bias[0, :HIDDEN] = KEPT
    return {
        "W": rng.normal(0, INPUTS**-0.5, (1, 3 * HIDDEN, INPUTS)).astype(np.float32),
        "R": rng.normal(0, HIDDEN**-0.5, (1, 3 * HIDDEN, HIDDEN)).astype(np.float32),
        "B": bias,
        "head": rng.normal(0, HIDDEN**-0.5, (HIDDEN, CLASSES)).astype(np.float32),
        "axes0": np.array([0], np.int64),
    }


def main() -> None:
    """Write the model."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes0"], ["step"], "step"),
        helper.make_node(
            "GRU", ["step", "W", "R", "B", "", "state"], ["", "state_out"], "gru",
            hidden_size=HIDDEN, linear_before_reset=1,
        ),
        helper.make_node("Squeeze", ["state_out", "axes0"], ["flat"], "flat"),
        helper.make_node("MatMul", ["flat", "head"], ["y"], "head/MatMul"),
    ]  # fmt: skip

    def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    graph = helper.make_graph(
        nodes,
        "gru_steps",
        [value("x", "batch", INPUTS), value("state", 1, "batch", HIDDEN)],
        [value("y", "batch", CLASSES), value("state_out", 1, "batch", HIDDEN)],
        [numpy_helper.from_array(array, name) for name, array in weights().items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "model.onnx")


if __name__ == "__main__":
    main()
