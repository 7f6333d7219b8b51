"""Writes model.onnx: a transformer encoder of 4 layers whose third feed-forward overflows FP16 on purpose.

    python suites/models/overflow_transformer/make.py

Needs onnx.  Weights are seeded.  In one feed-forward a few hidden channels reach 3e5, as the "massive
activations" of trained transformers do; its second matrix brings them back to normal size.  FP32 and BF16
hold that, FP16 ends at 65504: there it is Inf, and NaN after the second matrix.  GELU is written out (Div,
Erf, Add, Mul, Mul), as PyTorch exports it.  Five nodes need FP32, and no fewer do: the first matrix, its
bias, both products of GELU, the second matrix.  Div and Erf do not: Erf(Inf) is 1, which is right.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
LAYERS, WIDTH, HEADS, HIDDEN, VOCABULARY, POSITIONS, SEED = 4, 64, 4, 256, 256, 128, 7
INTO_RESIDUAL = (2 * LAYERS) ** -0.5
"""Scale of the matrices that write to the residual stream, as GPT-2 initialises them."""
MASSIVE_LAYER, MASSIVE_CHANNELS, MASSIVE_SCALE = 2, 4, 1e5


class Network:
    """A graph under construction; every method adds nodes and returns the name of their result."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(SEED)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: NDArray[np.generic] | list[int] | float) -> str:
        """An initializer: INT64 for whole numbers, else FP32."""
        array = np.asarray(values)
        whole = np.issubdtype(array.dtype, np.integer)
        self.weights.append(numpy_helper.from_array(array.astype(np.int64 if whole else np.float32), name))
        return name

    def node(self, op_type: str, name: str, inputs: list[str], **attributes: object) -> str:
        """One node, its output named after it."""
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def linear(self, name: str, x: str, matrix: NDArray[np.float64]) -> str:
        """MatMul and Add, as PyTorch exports a linear layer of 3-D input."""
        y = self.node("MatMul", f"{name}/MatMul", [x, self.weight(f"{name}.weight", matrix)])
        bias = self.weight(f"{name}.bias", self.rng.normal(0, 0.02, matrix.shape[1]))
        return self.node("Add", f"{name}/Add", [y, bias])

    def matrix(self, rows: int, columns: int) -> NDArray[np.float64]:
        """A random matrix that keeps the variance of what it multiplies."""
        return self.rng.normal(0, rows**-0.5, (rows, columns))

    def norm(self, name: str, x: str) -> str:
        """Layer normalisation over the last axis."""
        scale = self.weight(f"{name}.weight", self.rng.uniform(0.8, 1.2, WIDTH))
        bias = self.weight(f"{name}.bias", self.rng.normal(0, 0.1, WIDTH))
        return self.node("LayerNormalization", f"{name}/LayerNormalization", [x, scale, bias], axis=-1)

    def heads(self, name: str, x: str, perm: list[int]) -> str:
        """[batch, sequence, width] split into heads and transposed."""
        shape = self.weight(f"{name}.shape", [0, 0, HEADS, WIDTH // HEADS])
        split = self.node("Reshape", f"{name}/Reshape", [x, shape])
        return self.node("Transpose", f"{name}/Transpose", [split], perm=perm)

    def attention(self, name: str, x: str) -> str:
        """Multi-head self-attention."""
        perms = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
        q, k, v = (
            self.heads(f"{name}/{part}", self.linear(f"{name}/{part}", x, self.matrix(WIDTH, WIDTH)), perm)
            for part, perm in perms.items()
        )
        scores = self.node("MatMul", f"{name}/scores/MatMul", [q, k])
        root = self.weight(f"{name}.root", float(np.sqrt(WIDTH // HEADS)))
        scores = self.node("Div", f"{name}/scores/Div", [scores, root])
        shares = self.node("Softmax", f"{name}/Softmax", [scores], axis=-1)
        mixed = self.node("MatMul", f"{name}/mix/MatMul", [shares, v])
        mixed = self.node("Transpose", f"{name}/mix/Transpose", [mixed], perm=[0, 2, 1, 3])
        shape = self.weight(f"{name}.shape", [0, 0, WIDTH])
        mixed = self.node("Reshape", f"{name}/mix/Reshape", [mixed, shape])
        return self.linear(f"{name}/out", mixed, self.matrix(WIDTH, WIDTH) * INTO_RESIDUAL)

    def gelu(self, name: str, x: str) -> str:
        """x * (1 + erf(x / sqrt 2)) * 0.5, node by node."""
        root = self.weight(f"{name}.root", float(np.sqrt(2)))
        one, half = self.weight(f"{name}.one", 1.0), self.weight(f"{name}.half", 0.5)
        erf = self.node("Erf", f"{name}/Erf", [self.node("Div", f"{name}/Div", [x, root])])
        product = self.node("Mul", f"{name}/Mul", [x, self.node("Add", f"{name}/Add", [erf, one])])
        return self.node("Mul", f"{name}/Mul_1", [product, half])

    def feed_forward(self, name: str, x: str, massive: bool) -> str:
        """Two linear layers with GELU between; `massive` scales some hidden channels up, and down again."""
        first, second = self.matrix(WIDTH, HIDDEN), self.matrix(HIDDEN, WIDTH) * INTO_RESIDUAL
        if massive:
            first[:, :MASSIVE_CHANNELS] *= MASSIVE_SCALE
            second[:MASSIVE_CHANNELS] /= MASSIVE_SCALE
        hidden = self.gelu(f"{name}/gelu", self.linear(f"{name}/first", x, first))
        return self.linear(f"{name}/second", hidden, second)

    def layer(self, name: str, x: str, massive: bool) -> str:
        """Attention and feed-forward, each added to its input and normalised."""
        x = self.node("Add", f"{name}/Add", [x, self.attention(f"{name}/attention", x)])
        x = self.norm(f"{name}/norm1", x)
        x = self.node("Add", f"{name}/Add_1", [x, self.feed_forward(f"{name}/feed_forward", x, massive)])
        return self.norm(f"{name}/norm2", x)


def embed(net: Network) -> str:
    """Token and position embeddings, added and normalised."""
    words = net.weight("embeddings.words", net.rng.normal(0, 1, (VOCABULARY, WIDTH)))
    places = net.weight("embeddings.positions", net.rng.normal(0, 0.3, (POSITIONS, WIDTH)))
    shape = net.node("Shape", "embeddings/Shape", ["tokens"], start=1, end=2)
    start, axis = net.weight("embeddings.start", [0]), net.weight("embeddings.axis", [0])
    here = net.node("Slice", "embeddings/Slice", [places, start, shape, axis])
    tokens = net.node("Gather", "embeddings/Gather", [words, "tokens"])
    return net.norm("embeddings/norm", net.node("Add", "embeddings/Add", [tokens, here]))


def main() -> None:
    """Build, check, write."""
    net = Network()
    x = embed(net)
    for index in range(LAYERS):
        x = net.layer(f"layer{index}", x, massive=index == MASSIVE_LAYER)
    net.nodes.append(helper.make_node("Identity", [x], ["hidden"], "head/Identity"))
    net.nodes.append(helper.make_node("ReduceMean", [x], ["pooled"], "head/ReduceMean", axes=[1], keepdims=0))
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "sequence"])
    outputs = [
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "sequence", WIDTH]),
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", WIDTH]),
    ]
    graph = helper.make_graph(net.nodes, "overflow_transformer", [tokens], outputs, net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "model.onnx")


if __name__ == "__main__":
    main()
