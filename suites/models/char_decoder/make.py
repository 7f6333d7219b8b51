"""Trains and writes model.onnx and prompts.npz: a decoder with a KV cache that continues the Apache licence.

    python suites/models/char_decoder/make.py

Needs jax 0.10.2, onnx and onnxruntime.  Two layers, four heads of 16, bytes as tokens, positions up to
384; batch, past and sequence are dynamic.  It is trained on the LICENSE file of this repository, so that the
bytes it chooses mean something, and a wrong one can be seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
TEXT = HERE.parents[2] / "LICENSE"
VOCABULARY, WIDTH, HEADS, LAYERS, POSITIONS, SEED = 128, 64, 4, 2, 384, 7
SIZE = WIDTH // HEADS
WINDOW, BATCH, STEPS, RATE = 96, 12, 2500, 3e-3
PROMPTS, CACHED, LENGTH = 16, 32, 64
Weights = dict[str, Any]


def initial() -> Weights:
    """Seeded weights; matrices are [in, out]."""
    rng = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int, scale: float) -> np.ndarray:
        return rng.normal(0, scale, (rows, columns)).astype(np.float32)

    weights: Weights = {
        "embedding": matrix(VOCABULARY, WIDTH, 0.05),
        "positions": matrix(POSITIONS, WIDTH, 0.02),
        "head": matrix(WIDTH, VOCABULARY, WIDTH**-0.5),
        "final.scale": np.ones(WIDTH, np.float32),
        "final.bias": np.zeros(WIDTH, np.float32),
    }
    for k in range(LAYERS):
        for part in ("q", "k", "v", "out"):
            weights[f"{k}.{part}"] = matrix(WIDTH, WIDTH, WIDTH**-0.5)
        weights[f"{k}.up"] = matrix(WIDTH, 4 * WIDTH, WIDTH**-0.5)
        weights[f"{k}.down"] = matrix(4 * WIDTH, WIDTH, (4 * WIDTH) ** -0.5)
        for part in ("attention", "mlp"):
            weights[f"{k}.{part}.scale"] = np.ones(WIDTH, np.float32)
            weights[f"{k}.{part}.bias"] = np.zeros(WIDTH, np.float32)
    return weights


def normed(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """Layer normalisation."""
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.scale"] + weights[f"{name}.bias"]


def logits(weights: Weights, tokens: jax.Array, start: jax.Array) -> jax.Array:
    """Logits of whole windows [batch, length], the first token of each at position `start`."""
    batch, length = tokens.shape
    places = start[:, None] + jnp.arange(length)
    x = weights["embedding"][tokens] + weights["positions"][places]
    causal = jnp.tril(jnp.ones((length, length), bool))
    for k in range(LAYERS):
        inner = normed(weights, f"{k}.attention", x)
        heads = [
            (inner @ weights[f"{k}.{part}"]).reshape(batch, length, HEADS, SIZE).swapaxes(1, 2)
            for part in ("q", "k", "v")
        ]
        scores = jnp.where(causal, heads[0] @ heads[1].swapaxes(2, 3) * SIZE**-0.5, -1e4)
        mixed = jax.nn.softmax(scores) @ heads[2]
        x = x + mixed.swapaxes(1, 2).reshape(batch, length, WIDTH) @ weights[f"{k}.out"]
        up = normed(weights, f"{k}.mlp", x) @ weights[f"{k}.up"]
        x = x + up * jax.nn.sigmoid(1.702 * up) @ weights[f"{k}.down"]
    return normed(weights, "final", x) @ weights["head"]


def loss(weights: Weights, tokens: jax.Array, start: jax.Array) -> jax.Array:
    """Cross entropy of the next byte."""
    found = jax.nn.log_softmax(logits(weights, tokens[:, :-1], start))
    return -jnp.take_along_axis(found, tokens[:, 1:, None], 2).mean()


@jax.jit
def update(weights: Weights, moments: Any, step: Any, tokens: Any, start: Any) -> tuple[Weights, Any, Any]:
    """One step of Adam, its rate falling to nothing along half a cosine."""
    value, slopes = jax.value_and_grad(loss)(weights, tokens, start)
    rate = RATE * 0.5 * (1 + jnp.cos(jnp.pi * step / STEPS)) * jnp.minimum(1.0, (step + 1) / 100)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], slopes)
    second = jax.tree.map(lambda m, g: 0.99 * m + 0.01 * g * g, moments[1], slopes)
    fix = (1 - 0.9 ** (step + 1)), (1 - 0.99 ** (step + 1))
    moved = jax.tree.map(
        lambda w, m, v: w - rate * (m / fix[0]) / (jnp.sqrt(v / fix[1]) + 1e-8), weights, first, second
    )
    return moved, (first, second), value


def trained(text: np.ndarray) -> Weights:
    """Weights after STEPS steps on windows of `text`, each at a position of its own."""
    rng, weights = np.random.default_rng(SEED), jax.tree.map(jnp.asarray, initial())
    moments = (jax.tree.map(jnp.zeros_like, weights), jax.tree.map(jnp.zeros_like, weights))
    for step in range(STEPS):
        first = rng.integers(0, len(text) - WINDOW - 1, BATCH)
        tokens = np.stack([text[at : at + WINDOW + 1] for at in first])
        start = rng.integers(0, POSITIONS - WINDOW, BATCH)
        weights, moments, value = update(weights, moments, step, tokens, start)
        if step % 250 == 0:
            print(step, float(value), flush=True)
    return {name: np.asarray(value) for name, value in weights.items()}


class Graph:
    """A graph under construction; every method adds nodes and returns the name of their result."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights = [numpy_helper.from_array(value, name) for name, value in weights.items()]

    def whole(self, name: str, *values: int) -> str:
        """An INT64 initializer of one axis."""
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def scalar(self, name: str, value: float | int) -> str:
        """A scalar initializer, FP32 or INT64."""
        kind = np.float32 if isinstance(value, float) else np.int64
        self.weights.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def node(self, op_type: str, name: str, *inputs: str, out: str = "", **attributes: object) -> str:
        """One node, its output named after it."""
        self.nodes.append(helper.make_node(op_type, list(inputs), [out or f"{name}_out"], name, **attributes))
        return out or f"{name}_out"

    def size(self, name: str, tensor: str, axis: str) -> str:
        """The size of one axis, a scalar."""
        return self.node("Gather", name, self.node("Shape", f"{name}/Shape", tensor), axis)

    def norm(self, name: str, x: str) -> str:
        """Layer normalisation."""
        return self.node("LayerNormalization", f"{name}/Norm", x, f"{name}.scale", f"{name}.bias", axis=-1)

    def allowed(self) -> str:
        """Which keys each query may see: none after it, none that the mask leaves out."""
        zero, one = self.scalar("zero", 0), self.scalar("one", 1)
        past = self.size("past", "past_k_0", self.scalar("two", 2))
        total = self.size("total", "attention_mask", one)
        keys = self.node("Range", "keys", zero, total, one)
        queries = self.node("Range", "queries", past, total, one)
        column = self.node("Unsqueeze", "queries/column", queries, self.whole("axis1", 1))
        causal = self.node("LessOrEqual", "causal", keys, column)
        kept = self.node("Cast", "mask/Cast", "attention_mask", to=TensorProto.BOOL)
        wide = self.node("Unsqueeze", "mask/wide", kept, self.whole("axes12", 1, 2))
        return self.node("And", "allowed", causal, wide)

    def layer(self, k: int, x: str, allowed: str) -> str:
        """One layer; its cache goes out as `present_k_N` and `present_v_N`."""
        inner = self.norm(f"{k}.attention", x)
        q, key, value = (self.heads(f"{k}.{part}", inner) for part in ("q", "k", "v"))
        key = self.node("Concat", f"{k}/cache_k", f"past_k_{k}", key, out=f"present_k_{k}", axis=2)
        value = self.node("Concat", f"{k}/cache_v", f"past_v_{k}", value, out=f"present_v_{k}", axis=2)
        turned = self.node("Transpose", f"{k}/turned", key, perm=[0, 1, 3, 2])
        scaled = self.node("Mul", f"{k}/scaled", q, "scale")
        scores = self.node("MatMul", f"{k}/scores", scaled, turned)
        masked = self.node("Where", f"{k}/masked", allowed, scores, "never")
        mixed = self.node("MatMul", f"{k}/mixed", self.node("Softmax", f"{k}/Softmax", masked), value)
        back = self.node("Transpose", f"{k}/back", mixed, perm=[0, 2, 1, 3])
        flat = self.node("Reshape", f"{k}/flat", back, "flat")
        x = self.node("Add", f"{k}/attended", x, self.node("MatMul", f"{k}/out", flat, f"{k}.out"))
        up = self.node("MatMul", f"{k}/up", self.norm(f"{k}.mlp", x), f"{k}.up")
        gate = self.node("Sigmoid", f"{k}/Sigmoid", self.node("Mul", f"{k}/steep", up, "steep"))
        down = self.node("MatMul", f"{k}/down", self.node("Mul", f"{k}/gelu", up, gate), f"{k}.down")
        return self.node("Add", f"{k}/added", x, down)

    def heads(self, name: str, x: str) -> str:
        """A projection, [batch, heads, sequence, size]."""
        split = self.node("Reshape", f"{name}/split", self.node("MatMul", f"{name}/MatMul", x, name), "split")
        return self.node("Transpose", f"{name}/heads", split, perm=[0, 2, 1, 3])


def to_onnx(weights: Weights) -> onnx.ModelProto:
    """The decoder with its cache as inputs and outputs."""
    graph = Graph(weights)
    graph.whole("split", 0, 0, HEADS, SIZE)
    graph.whole("flat", 0, 0, WIDTH)
    graph.scalar("scale", float(SIZE**-0.5))
    graph.scalar("steep", 1.702)
    graph.scalar("never", -1e4)
    words = graph.node("Gather", "embed", "embedding", "input_ids")
    places = graph.node("Gather", "place", "positions", "position_ids")
    x, allowed = graph.node("Add", "embedded", words, places), graph.allowed()
    for k in range(LAYERS):
        x = graph.layer(k, x, allowed)
    graph.node("MatMul", "logits/MatMul", graph.norm("final", x), "head", out="logits")
    caches = [f"{part}_{k}" for k in range(LAYERS) for part in ("k", "v")]

    def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(shape))

    inputs = [
        value("input_ids", TensorProto.INT64, "batch", "seq"),
        value("attention_mask", TensorProto.INT64, "batch", "past + seq"),
        value("position_ids", TensorProto.INT64, "batch", "seq"),
        *(value(f"past_{c}", TensorProto.FLOAT, "batch", HEADS, "past", SIZE) for c in caches),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, "batch", "seq", VOCABULARY),
        *(value(f"present_{c}", TensorProto.FLOAT, "batch", HEADS, "past + seq", SIZE) for c in caches),
    ]
    made = helper.make_graph(graph.nodes, "char_decoder", inputs, outputs, graph.weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def prompts(text: np.ndarray) -> np.ndarray:
    """Windows of the text that begin with a word, [PROMPTS, CACHED + LENGTH]."""
    spaces = text == ord(" ")
    begins = np.flatnonzero(spaces[:-2] & ~spaces[1:-1] & ~spaces[2:]) + 1
    begins = begins[begins < len(text) - CACHED - LENGTH]
    chosen = begins[np.linspace(0, len(begins) - 1, PROMPTS).astype(int)]
    return np.stack([text[at : at + CACHED + LENGTH] for at in chosen])


def caches(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """What the model holds of `tokens`, by the name of the input: [PROMPTS, HEADS, CACHED, SIZE]."""
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    empty = np.zeros((len(tokens), HEADS, 0, SIZE), np.float32)
    names = [f"{part}_{k}" for k in range(LAYERS) for part in ("k", "v")]
    places = np.broadcast_to(np.arange(CACHED), tokens.shape)
    feeds = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "position_ids": places.copy()}
    feeds |= {f"past_{name}": empty for name in names}
    found = session.run([f"present_{name}" for name in names], feeds)
    return {f"past_{name}": array for name, array in zip(names, found, strict=True)}


def main() -> None:
    """Train, write the model, and prompts out of the text, each behind a cache of what comes before it."""
    text = np.frombuffer(TEXT.read_bytes(), np.uint8).astype(np.int64)
    onnx.save(to_onnx(trained(text)), HERE / "model.onnx")
    before, tokens = np.split(prompts(text), [CACHED], axis=1)
    np.savez_compressed(HERE / "prompts.npz", tokens=tokens, **caches(before))


if __name__ == "__main__":
    main()
