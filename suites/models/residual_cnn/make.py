"""Writes model.onnx: a residual CNN with seeded weights, in the form that PyTorch exports one before folding.

    python suites/models/residual_cnn/make.py

Needs onnx and onnxruntime.  A stem, three stages of two residual blocks (16, 32, 64 channels), batch
normalisation not folded, global average pooling, a linear head; batch, height and width are dynamic.  The
running mean and variance are those of a seeded batch, as training would have left them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
STAGES, BLOCKS, CLASSES, SEED = (16, 32, 64), 2, 10, 20


class Network:
    """A graph under construction; every method adds nodes and returns the name of their result."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(SEED)
        self.batch = self.rng.normal(size=(16, 3, 32, 32)).astype(np.float32)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: NDArray[np.float64]) -> str:
        """An FP32 initializer."""
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, op_type: str, name: str, inputs: list[str], **attributes: object) -> str:
        """One node, its output named after it."""
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def conv(self, name: str, x: str, sizes: tuple[int, int, int], stride: int = 1) -> str:
        """Convolution without bias; `sizes` are output and input channels and the kernel's side."""
        out, channels, side = sizes
        std = np.sqrt(2 / (channels * side * side))
        kernel = self.weight(f"{name}.weight", self.rng.normal(0, std, (out, channels, side, side)))
        pads = [side // 2] * 4
        conv = self.node("Conv", f"{name}/Conv", [x, kernel], strides=[stride] * 2, pads=pads)
        return self.batch_norm(f"{name}.bn", conv, out)

    def batch_norm(self, name: str, x: str, channels: int) -> str:
        """Batch normalisation with the statistics that the seeded batch has there."""
        seen = self.run(x).astype(np.float64)
        parts = {
            "weight": self.rng.uniform(0.7, 1.3, channels),
            "bias": self.rng.normal(0, 0.2, channels),
            "running_mean": seen.mean((0, 2, 3)),
            "running_var": seen.var((0, 2, 3)),
        }
        names = [self.weight(f"{name}.{part}", values) for part, values in parts.items()]
        return self.node("BatchNormalization", f"{name}/BatchNormalization", [x, *names])

    def block(self, name: str, x: str, channels: tuple[int, int], stride: int) -> str:
        """Two convolutions and a shortcut, which is projected where the shape changes."""
        before, after = channels
        y = self.conv(f"{name}.conv1", x, (after, before, 3), stride)
        y = self.node("Relu", f"{name}/Relu", [y])
        y = self.conv(f"{name}.conv2", y, (after, after, 3))
        if stride != 1 or before != after:
            x = self.conv(f"{name}.shortcut", x, (after, before, 1), stride)
        return self.node("Relu", f"{name}/Relu_1", [self.node("Add", f"{name}/Add", [x, y])])

    def model(self, output: str, shape: list[int | str]) -> onnx.ModelProto:
        """The graph so far as a model with one output."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "residual_cnn", [image], [result], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def run(self, output: str) -> NDArray[np.float32]:
        """A tensor of the graph so far, for the seeded batch."""
        model = self.model(output, ["n", "c", "h", "w"]).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        found: NDArray[np.float32] = session.run(None, {"image": self.batch})[0]
        return found


def main() -> None:
    """Build, check, write."""
    net = Network()
    x = net.node("Relu", "stem/Relu", [net.conv("stem", "image", (STAGES[0], 3, 3))])
    before = STAGES[0]
    for stage, channels in enumerate(STAGES):
        for block in range(BLOCKS):
            stride = 2 if stage and not block else 1
            x = net.block(f"stage{stage}.{block}", x, (before, channels), stride)
            before = channels
    x = net.node("Flatten", "head/Flatten", [net.node("GlobalAveragePool", "head/GlobalAveragePool", [x])])
    head = net.weight("head.weight", net.rng.normal(0, before**-0.5, (CLASSES, before)))
    bias = net.weight("head.bias", net.rng.normal(0, 0.1, CLASSES))
    net.nodes.append(helper.make_node("Gemm", [x, head, bias], ["logits"], "head/Gemm", transB=1))
    model = net.model("logits", ["batch", CLASSES])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "model.onnx")


if __name__ == "__main__":
    main()
