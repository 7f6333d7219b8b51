"""Small ONNX models and spec files for tests."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def linear_model(batch="batch", *, name="input", seed=0):
    """[batch, 4] -> Gemm `layer/gemm` -> Relu `layer/relu` -> [batch, 3]."""
    rng = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array(rng.normal(size=(4, 3)).astype(np.float32), "weight"),
        numpy_helper.from_array(rng.normal(size=3).astype(np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("Gemm", [name, "weight", "bias"], ["hidden"], "layer/gemm"),
        helper.make_node("Relu", ["hidden"], ["output"], "layer/relu"),
    ]
    return one_graph(nodes, [(name, TensorProto.FLOAT, [batch, 4])], [("output", [batch, 3])], weights)


def one_graph(nodes, inputs, outputs, weights=(), opset=17):
    """A model of `nodes`; inputs are (name, type, shape), outputs FLOAT (name, shape)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


SPEC = """\
# The example.
name = "example"
precisions = ["fp32", "fp16"]  # in this order

[model]
onnx = "model.onnx"

[inputs.input]
dtype = "float32"
data = { npz = "data.npz", member = "rows" }

[[profiles]]
shapes.input = { min = [1, 4], opt = [2, 4], max = [8, 4] }

# Found by hand.
[precision.fp16]
fp32_nodes = ["layer/*"]  # all of them

[task]
labels = { npz = "data.npz", member = "labels" }
"""


def write_example(folder, text=SPEC):
    """A spec, its model and 10 labelled rows in `folder`; the spec's path."""
    onnx.save(linear_model(), folder / "model.onnx")
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    np.savez(folder / "data.npz", rows=rows, labels=np.arange(10) % 3)
    path = folder / "spec.toml"
    path.write_text(text, encoding="utf-8")
    return path
