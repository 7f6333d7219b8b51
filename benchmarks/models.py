"""Generated models of real sizes and real topology, with seeded random weights: ResNet-50 and BERT-base.

python -m benchmarks.models FOLDER      writes resnet50.onnx (102 MB) and bert_base.onnx (437 MB)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.command import arguments, made

OPSET = 17
IMAGE = 224
TOKENS = 128


class Builder:
    """A graph under construction; each method adds a node and returns the name of its output."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(seed)

    def op(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """A node of `op_type`."""
        name = f"{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=f"/{name}", **attributes))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """A normal weight; by default scaled so that sums over all but the last axis keep their size."""
        fan = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        values = self._rng.standard_normal(shape, np.float32)
        return self.constant(values * np.float32(scale if scale is not None else fan**-0.5))

    def constant(self, array: NDArray[np.generic]) -> str:
        """An initializer."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def vector(self, size: int, value: float) -> str:
        """An initializer of equal numbers."""
        return self.constant(np.full(size, value, np.float32))

    def model(
        self, inputs: list[onnx.ValueInfoProto], output: str, shape: list[int | str]
    ) -> onnx.ModelProto:
        """The finished model with one output, named `output`."""
        self.nodes[-1].output[0] = output
        ends = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self.nodes, "generated", inputs, ends, self.weights)
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)])


def resnet50(seed: int = 0) -> onnx.ModelProto:
    """ResNet-50 v1.5 with BatchNorms folded in: 25.5 M parameters.

    `image` FLOAT [N, 3, 224, 224] -> `logits` [N, 1000].
    """
    b = Builder(seed)
    x = b.op("Relu", _conv(b, "image", 3, 64, 7, stride=2))
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            x = _bottleneck(b, x, channels, 64 << stage, 2 if stage and not block else 1)
            channels = 256 << stage
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    b.op("Gemm", x, b.weight(channels, 1000), b.vector(1000, 0))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, IMAGE, IMAGE])
    return b.model([image], "logits", ["N", 1000])


def _conv(b: Builder, x: str, inner: int, outer: int, size: int, stride: int = 1, scale: float = 1.4) -> str:
    weight = b.weight(outer, inner, size, size, scale=scale * (inner * size * size) ** -0.5)
    pads, strides = [size // 2] * 4, [stride] * 2
    return b.op("Conv", x, weight, b.vector(outer, 0), kernel_shape=[size, size], pads=pads, strides=strides)


def _bottleneck(b: Builder, x: str, channels: int, width: int, stride: int) -> str:
    y = b.op("Relu", _conv(b, x, channels, width, 1))
    y = b.op("Relu", _conv(b, y, width, width, 3, stride))
    y = _conv(b, y, width, 4 * width, 1, scale=0.3)
    if stride != 1 or channels != 4 * width:
        x = _conv(b, x, channels, 4 * width, 1, stride, scale=1.0)
    return b.op("Relu", b.op("Add", y, x))


def bert_base(seed: int = 0, layers: int = 12) -> onnx.ModelProto:
    """BERT-base as exporters write it, LayerNorm decomposed: 109 M parameters.

    `ids` and `mask` INT64 [N, 128] -> `states` [N, 128, 768].
    """
    b, width = Builder(seed), 768
    x = b.op("Gather", b.weight(30522, width, scale=0.05), "ids")
    x = b.op("Add", x, b.weight(1, TOKENS, width, scale=0.05))
    x = _layer_norm(b, x, width)
    bias = _mask(b)
    for _ in range(layers):
        x = _layer_norm(b, b.op("Add", _attention(b, x, bias, width, 12), x), width)
        x = _layer_norm(b, b.op("Add", _feed_forward(b, x, width), x), width)
    tokens = [helper.make_tensor_value_info(n, TensorProto.INT64, ["N", TOKENS]) for n in ("ids", "mask")]
    return b.model(tokens, "states", ["N", TOKENS, width])


def _mask(b: Builder) -> str:
    mask = b.op("Cast", "mask", to=TensorProto.FLOAT)
    hidden = b.op("Sub", b.vector(1, 1), b.op("Unsqueeze", mask, b.constant(np.array([1, 2]))))
    return b.op("Mul", hidden, b.vector(1, -10000))


def _dense(b: Builder, x: str, inner: int, outer: int) -> str:
    return b.op("Add", b.op("MatMul", x, b.weight(inner, outer)), b.vector(outer, 0))


def _heads(b: Builder, x: str, width: int, heads: int, perm: list[int]) -> str:
    split = b.constant(np.array([0, 0, heads, width // heads]))
    return b.op("Transpose", b.op("Reshape", _dense(b, x, width, width), split), perm=perm)


def _attention(b: Builder, x: str, bias: str, width: int, heads: int) -> str:
    query = _heads(b, x, width, heads, [0, 2, 1, 3])
    key = _heads(b, x, width, heads, [0, 2, 3, 1])
    value = _heads(b, x, width, heads, [0, 2, 1, 3])
    scores = b.op("Div", b.op("MatMul", query, key), b.vector(1, (width // heads) ** 0.5))
    weights = b.op("Softmax", b.op("Add", scores, bias), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", weights, value), perm=[0, 2, 1, 3])
    return _dense(b, b.op("Reshape", mixed, b.constant(np.array([0, 0, width]))), width, width)


def _feed_forward(b: Builder, x: str, width: int) -> str:
    h = _dense(b, x, width, 4 * width)
    erf = b.op("Add", b.op("Erf", b.op("Div", h, b.vector(1, 2**0.5))), b.vector(1, 1))
    gelu = b.op("Mul", b.op("Mul", h, erf), b.vector(1, 0.5))
    return _dense(b, gelu, 4 * width, width)


def _layer_norm(b: Builder, x: str, width: int) -> str:
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes=[-1]))
    variance = b.op("ReduceMean", b.op("Pow", centred, b.vector(1, 2)), axes=[-1])
    scaled = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.vector(1, 1e-5))))
    return b.op("Add", b.op("Mul", scaled, b.vector(width, 1)), b.vector(width, 0))


MODELS = {"resnet50": resnet50, "bert_base": bert_base}


def main(folder: Path) -> None:
    """Write all models into `folder`."""
    for name, make in MODELS.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(make().SerializeToString())
        print(path, path.stat().st_size)


if __name__ == "__main__":
    folder = {"metavar": "FOLDER", "help": "made if it is not there"}
    main(made(arguments(__file__, __doc__, folder=folder).folder))
