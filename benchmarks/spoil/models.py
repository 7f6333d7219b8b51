"""Six small models as they are deployed, with seeded weights: each a folder with model, data and spec.

detector (boxes in pixels beside class scores), classifier (labelled), segmenter, decoder (with keys and
values that go round), embedder (with a mask), recurrent (LSTM over GRU).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.models import OPSET, Builder

Arrays = dict[str, NDArray[Any]]
Shapes = Mapping[str, list[int | str]]
PRECISIONS = 'precisions = ["fp32", "fp16", "bf16", "int8", "int8+fp16"]'


def _finish(
    b: Builder, inputs: Shapes, outputs: Mapping[str, tuple[str, list[int | str]]]
) -> onnx.ModelProto:
    """The model; `outputs`: name -> the tensor that it is, and its shape.  `ids` and `mask` are INT64."""
    whole = {"ids", "mask"}
    for name, (tensor, _) in outputs.items():
        b.nodes.append(helper.make_node("Identity", [tensor], [name], name=f"/{name}"))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, (_, shape) in outputs.items()]
    starts = [
        helper.make_tensor_value_info(n, TensorProto.INT64 if n in whole else TensorProto.FLOAT, shape)
        for n, shape in inputs.items()
    ]
    graph = helper.make_graph(b.nodes, "generated", starts, ends, b.weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model)
    return model


def _conv(
    b: Builder, x: str, inner: int, outer: int, size: int = 3, stride: int = 1, gain: float = 1.4
) -> str:
    weight = b.weight(outer, inner, size, size, scale=gain * (inner * size * size) ** -0.5)
    bias = b.weight(outer, scale=0.1)
    pads, strides = [size // 2] * 4, [stride] * 2
    return b.op("Conv", x, weight, bias, kernel_shape=[size, size], pads=pads, strides=strides)


def _norm(b: Builder, x: str, size: int) -> str:
    parts = [b.constant(b_) for b_ in (np.linspace(0.8, 1.2, size, dtype=np.float32),
                                       np.linspace(-0.1, 0.1, size, dtype=np.float32),
                                       np.linspace(-0.2, 0.2, size, dtype=np.float32),
                                       np.linspace(0.5, 1.5, size, dtype=np.float32))]  # fmt: skip
    return b.op("BatchNormalization", x, *parts, epsilon=1e-3)


def _backbone(b: Builder, width: int = 12) -> str:
    x = b.op("Relu", _norm(b, _conv(b, "image", 3, width, stride=2), width))
    x = b.op("Relu", _conv(b, x, width, width, stride=2))
    return b.op("Relu", b.op("Add", x, _conv(b, x, width, width, gain=0.7)))


def detector() -> onnx.ModelProto:
    """`image` -> `detections` [N, 4 + 6, anchors]: boxes in pixels of 640, then scores of 6 classes."""
    b = Builder(11)
    x = b.op("MaxPool", _backbone(b), kernel_shape=[2, 2], strides=[2, 2])
    boxes = b.op("Mul", b.op("Sigmoid", _conv(b, x, 12, 4, 1)), b.vector(1, 640))
    scores = b.op("Sigmoid", b.op("Sub", b.op("Mul", _conv(b, x, 12, 6, 1), b.vector(1, 2)), b.vector(1, 2)))
    both = b.op("Concat", boxes, scores, axis=1)
    out = b.op("Reshape", both, b.constant(np.array([0, 10, -1])))
    shape: list[int | str] = ["N", 10, "A"]
    return _finish(b, {"image": ["N", 3, "H", "W"]}, {"detections": (out, shape)})


def classifier() -> onnx.ModelProto:
    """`image` [N, 3, 32, 32] -> `logits` [N, 10]."""
    b = Builder(12)
    x = b.op("MaxPool", _conv(b, _backbone(b), 12, 24, stride=2), kernel_shape=[2, 2], strides=[2, 2])
    x = b.op("Gemm", b.op("Flatten", x), b.weight(96, 10), b.weight(10, scale=0.1))
    return _finish(b, {"image": ["N", 3, 32, 32]}, {"logits": (x, ["N", 10])})


def segmenter() -> onnx.ModelProto:
    """`image` -> `logits` [N, 5, H, W]."""
    b = Builder(13)
    x = _conv(b, _backbone(b), 12, 8)
    scales = b.constant(np.array([1, 1, 4, 4], np.float32))
    mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    x = b.op("Resize", b.op("LeakyRelu", x, alpha=0.1), "", scales, **mode)
    x = b.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    out = _conv(b, x, 8, 5, gain=2.0)
    return _finish(b, {"image": ["N", 3, "H", "W"]}, {"logits": (out, ["N", 5, "H", "W"])})


def _heads(b: Builder, x: str, width: int) -> str:
    split = b.constant(np.array([0, 0, 2, width // 2]))
    dense = b.op("Add", b.op("MatMul", x, b.weight(width, width)), b.weight(width, scale=0.1))
    return b.op("Transpose", b.op("Reshape", dense, split), perm=[0, 2, 1, 3])


def _attention(b: Builder, query: str, key: str, value: str, width: int, bias: str = "") -> str:
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2]))
    scores = b.op("Mul", scores, b.vector(1, (width // 2) ** -0.5))
    weights = b.op("Softmax", b.op("Add", scores, bias) if bias else scores, axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", weights, value), perm=[0, 2, 1, 3])
    return b.op("MatMul", b.op("Reshape", mixed, b.constant(np.array([0, 0, width]))), b.weight(width, width))


def _layer_norm(b: Builder, x: str, width: int) -> str:
    scale, bias = (
        b.constant(np.linspace(*ends, width, dtype=np.float32)) for ends in ((0.8, 1.2), (-0.1, 0.1))
    )
    return b.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)


def _block(b: Builder, x: str, mixed: str, width: int) -> str:
    x = _layer_norm(b, b.op("Add", x, mixed), width)
    h = b.op("MatMul", x, b.weight(width, 2 * width))
    erf = b.op("Add", b.op("Erf", b.op("Mul", h, b.vector(1, 0.5**0.5))), b.vector(1, 1))
    gelu = b.op("Mul", b.op("Mul", h, erf), b.vector(1, 0.5))
    return _layer_norm(b, b.op("Add", x, b.op("MatMul", gelu, b.weight(2 * width, width))), width)


def decoder() -> onnx.ModelProto:
    """`ids` [N, 1] and past keys and values [N, 2, T, 12] -> `logits` [N, 1, 50], presents."""
    b, width = Builder(14), 24
    x = b.op("Gather", b.weight(50, width, scale=1.0), "ids")
    query, key, value = (_heads(b, x, width) for _ in range(3))
    key, value = b.op("Concat", "past_k", key, axis=2), b.op("Concat", "past_v", value, axis=2)
    x = _block(b, x, _attention(b, query, key, value, width), width)
    logits = b.op("MatMul", x, b.weight(width, 50, scale=0.6))
    past, present = ["N", 2, "T", 12], ["N", 2, "T1", 12]
    outputs = {"logits": (logits, ["N", 1, 50]), "present_k": (key, present), "present_v": (value, present)}
    return _finish(b, {"ids": ["N", 1], "past_k": past, "past_v": past}, outputs)  # type: ignore[arg-type]


def embedder() -> onnx.ModelProto:
    """`ids` and `mask` [N, T] -> `embedding` [N, 32] of length 1."""
    b, width = Builder(15), 32
    x = _layer_norm(b, b.op("Gather", b.weight(200, width, scale=1.0), "ids"), width)
    mask = b.op("Cast", "mask", to=TensorProto.FLOAT)
    hidden = b.op("Sub", b.vector(1, 1), b.op("Unsqueeze", mask, b.constant(np.array([1, 2]))))
    bias = b.op("Mul", hidden, b.vector(1, -10000))
    query, key, value = (_heads(b, x, width) for _ in range(3))
    x = _block(b, x, _attention(b, query, key, value, width, bias), width)
    kept = b.op("Mul", x, b.op("Unsqueeze", mask, b.constant(np.array([2]))))
    total = b.op("ReduceSum", kept, b.constant(np.array([1])), keepdims=0)
    mean = b.op("Div", total, b.op("ReduceSum", mask, b.constant(np.array([1])), keepdims=1))
    out = b.op("LpNormalization", mean, axis=-1, p=2)
    return _finish(b, {"ids": ["N", "T"], "mask": ["N", "T"]}, {"embedding": (out, ["N", width])})


def recurrent() -> onnx.ModelProto:
    """`x` [N, T, 8] -> `states` [N, T, 12] of an LSTM over a GRU, projected, and `last` [N, 12]."""
    b = Builder(16)
    x = b.op("Transpose", "x", perm=[1, 0, 2])
    gru = [b.weight(1, 36, size, scale=size**-0.5) for size in (8, 12)]
    x = b.op(
        "Squeeze", b.op("GRU", x, *gru, hidden_size=12, linear_before_reset=1), b.constant(np.array([1]))
    )
    lstm = [b.weight(1, 48, 12, scale=12**-0.5) for _ in range(2)]
    x = b.op("Squeeze", b.op("LSTM", x, *lstm, hidden_size=12), b.constant(np.array([1])))
    x = b.op("MatMul", x, b.weight(12, 12))
    states = b.op("Transpose", x, perm=[1, 0, 2])
    last = b.op("Gather", x, b.constant(np.array(-1)), axis=0)
    outputs = {"states": (states, ["N", "T", 12]), "last": (last, ["N", 12])}
    return _finish(b, {"x": ["N", "T", 8]}, outputs)  # type: ignore[arg-type]


MAKERS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "detector": detector, "classifier": classifier, "segmenter": segmenter,
    "decoder": decoder, "embedder": embedder, "recurrent": recurrent,
}  # fmt: skip


def images(count: int, size: int) -> NDArray[np.float32]:
    """Smooth random images, `count` x 3 x `size` x `size`."""
    rng = np.random.default_rng(21)
    coarse = rng.normal(0, 1.2, (count, 3, size // 8, size // 8))
    fine = rng.normal(0, 0.3, (count, 3, size, size))
    return (np.kron(coarse, np.ones((8, 8))) + fine).astype(np.float32)


def _data(name: str, model: onnx.ModelProto) -> Arrays:
    rng = np.random.default_rng(22)
    if name == "classifier":
        found = images(128, 32)
        return {"image": found, "labels": _answers(model, found)}
    if name in ("detector", "segmenter"):
        return {"image": images(64, 64)}
    if name == "embedder":
        lengths = rng.integers(3, 25, 64)
        return {
            "ids": rng.integers(0, 200, (64, 24)),
            "mask": (np.arange(24) < lengths[:, None]).astype(np.int64),
        }
    return {}


def _answers(model: onnx.ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
    """The model's own best classes: what is asked of an engine is that it decides as the model does."""
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": inputs})[0]).argmax(1)


_IMAGE = 'dtype = "float32"\ndata = {{ npz = "data.npz", member = "{}" }}'.format
_SPECS: Mapping[str, str] = {
    "detector": f"""[inputs.image]\n{_IMAGE("image")}
[[profiles]]
[profiles.shapes.image]
min = [1, 3, 32, 32]
opt = [2, 3, 64, 64]
max = [4, 3, 64, 64]
multiple_of = [1, 1, 8, 8]
""",
    "classifier": f"""[inputs.image]\n{_IMAGE("image")}
[[profiles]]
shapes.image = {{ min = [1, 3, 32, 32], opt = [4, 3, 32, 32], max = [8, 3, 32, 32] }}
[task]
metric = "top1"
labels = {{ npz = "data.npz", member = "labels" }}
allowed_drop = 0.05
""",
    "segmenter": f"""[inputs.image]\n{_IMAGE("image")}
[[profiles]]
[profiles.shapes.image]
min = [1, 3, 16, 16]
opt = [2, 3, 32, 48]
max = [4, 3, 64, 64]
multiple_of = [1, 1, 8, 8]
""",
    "decoder": """[inputs.ids]
dtype = "int64"
data = { generator = "integers", low = 0, high = 50, seed = 1 }
[inputs.past_k]
dtype = "float32"
data = { generator = "normal", seed = 2 }
[inputs.past_v]
dtype = "float32"
data = { generator = "normal", seed = 3 }
[[profiles]]
shapes.ids = { min = [1, 1], opt = [2, 1], max = [4, 1] }
shapes.past_k = { min = [1, 2, 1, 12], opt = [2, 2, 16, 12], max = [4, 2, 48, 12] }
shapes.past_v = { min = [1, 2, 1, 12], opt = [2, 2, 16, 12], max = [4, 2, 48, 12] }
""",
    "embedder": """[inputs.ids]
dtype = "int64"
data = { npz = "data.npz", member = "ids" }
[inputs.mask]
dtype = "int64"
data = { npz = "data.npz", member = "mask" }
[[profiles]]
shapes.ids = { min = [1, 3], opt = [4, 16], max = [8, 24] }
shapes.mask = { min = [1, 3], opt = [4, 16], max = [8, 24] }
""",
    "recurrent": """[inputs.x]
dtype = "float32"
data = { generator = "normal", seed = 1 }
[[profiles]]
shapes.x = { min = [1, 2, 8], opt = [2, 16, 8], max = [4, 48, 8] }
""",
}


def write(folder: Path) -> list[Path]:
    """Write the six into `folder`; returns their spec files."""
    found = []
    for name, make in MAKERS.items():
        place, model = folder / name, make()
        place.mkdir(parents=True, exist_ok=True)
        (place / "model.onnx").write_bytes(model.SerializeToString())
        if arrays := _data(name, model):
            np.savez(place / "data.npz", **arrays)
        text = f'name = "{name}"\n{PRECISIONS}\n[model]\nonnx = "model.onnx"\n{_SPECS[name]}'
        (place / "spec.toml").write_text(text, encoding="utf-8")
        found.append(place / "spec.toml")
    return found
