"""GRU, LSTM and RNN in NumPy, step by step, as ONNX defines them; gates and states rounded where asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}
FUNCTIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
TAKES = {"affine": 2, "leakyrelu": 1, "thresholdedrelu": 1, "scaledtanh": 2, "hardsigmoid": 2, "elu": 1}
PLAIN: Mapping[str, Callable[..., Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "affine": lambda x, a, b: a * x + b,
    "leakyrelu": lambda x, a: np.where(x >= 0, x, a * x),
    "thresholdedrelu": lambda x, a: np.where(x > a, x, 0),
    "scaledtanh": lambda x, a, b: a * np.tanh(b * x),
    "hardsigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "elu": lambda x, a: np.where(x >= 0, x, a * np.expm1(x)),
}

Rounding = Callable[[Any], Any]


class InexactError(Exception):
    """A sum that FP32 does not hold, so that the order of summation may show."""


@dataclass(frozen=True)
class Layer:
    """A recurrent node: its operator, its attributes as ONNX has them, its input tensors by ONNX's names."""

    op: str
    tensors: Mapping[str, Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def directions(self) -> int:
        return 2 if self.attributes.get("direction") == "bidirectional" else 1

    def functions(self, direction: int) -> list[Callable[[Any], Any]]:
        """The activation functions of one direction, with their parameters taken in order."""
        every = len(FUNCTIONS[self.op])
        names = self.attributes.get("activations", FUNCTIONS[self.op] * self.directions)
        alphas = iter(self.attributes.get("activation_alpha", ()))
        betas = iter(self.attributes.get("activation_beta", ()))
        made = []
        for name in (name.lower() for name in names):
            sources = (alphas, betas)[: TAKES.get(name, 0)]
            made.append(_bound(PLAIN[name], [float(np.float32(next(source))) for source in sources]))
        return made[direction * every : (direction + 1) * every]


def _bound(function: Callable[..., Any], parameters: Sequence[float]) -> Callable[[Any], Any]:
    return lambda x: function(x, *parameters)


def outputs(layer: Layer, rounding: Rounding, *, exact: bool = False) -> list[Any]:
    """Y, Y_h and, of an LSTM, Y_c, in float64.

    `exact`: raise InexactError for a sum that FP32 does not hold.
    """
    batch_first = bool(layer.attributes.get("layout", 0))
    tensors = {
        name: np.asarray(a, np.int64 if name == "sequence_lens" else np.float64)
        for name, a in layer.tensors.items()
    }
    if batch_first:
        for name in {"X", "initial_h", "initial_c"} & tensors.keys():
            tensors[name] = np.swapaxes(tensors[name], 0, 1)
    made = [_direction(layer, tensors, k, rounding, exact) for k in range(layer.directions)]
    y = np.stack([one[0] for one in made], 1)
    states = [np.stack([one[1][k] for one in made]) for k in range(STATES[layer.op])]
    if batch_first:
        y, states = y.transpose(2, 0, 1, 3), [np.swapaxes(state, 0, 1) for state in states]
    return [y, *states]


def _direction(
    layer: Layer, tensors: Mapping[str, Any], direction: int, rounding: Rounding, exact: bool
) -> tuple[Any, list[Any]]:
    x, hidden = tensors["X"], tensors["R"].shape[-1]
    steps, batch = x.shape[:2]
    lengths = tensors.get("sequence_lens", np.full(batch, steps))
    part = {name: a[direction] for name, a in tensors.items() if name not in ("X", "sequence_lens")}
    part.setdefault("B", np.zeros(2 * GATES[layer.op] * hidden))
    step = _Step(layer, part, layer.functions(direction), rounding, exact)
    back = direction == 1 or layer.attributes.get("direction") == "reverse"
    y = np.zeros((steps, batch, hidden))
    ends = []
    for row in range(batch):
        state = [part[n][row] if n in part else np.zeros(hidden) for n in ("initial_h", "initial_c")]
        state = state[: STATES[layer.op]]
        order = range(int(lengths[row]))
        for t in reversed(order) if back else order:
            state = step(x[t, row], state)
            y[t, row] = state[0]
        ends.append(state)
    return y, [np.stack(one) for one in zip(*ends, strict=True)]


@dataclass(frozen=True)
class _Step:
    layer: Layer
    part: Mapping[str, Any]
    functions: Sequence[Callable[[Any], Any]]
    rounding: Rounding
    exact: bool

    def __call__(self, x: Any, state: Sequence[Any]) -> list[Any]:
        return {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.layer.op](x, *state)

    def _rnn(self, x: Any, h: Any) -> list[Any]:
        return [self._gate(0, self._of(0, x) + self._recurrent(0, h))]

    def _gru(self, x: Any, h: Any) -> list[Any]:
        z, r = (self._gate(0, self._of(k, x) + self._recurrent(k, h)) for k in (0, 1))
        if self.layer.attributes.get("linear_before_reset"):
            new = self._gate(1, self._of(2, x) + r * self._recurrent(2, h))
        else:
            new = self._gate(1, self._of(2, x) + self._recurrent(2, self._sum(r * h)))
        return [self._round((1 - z) * new + z * h)]

    def _lstm(self, x: Any, h: Any, c: Any) -> list[Any]:
        i, o, f, g = (self._of(k, x) + self._recurrent(k, h) for k in range(4))
        looks = np.split(self.part["P"], 3) if "P" in self.part else [0, 0, 0]
        i = self._gate(0, i + looks[0] * c)
        if self.layer.attributes.get("input_forget"):
            f = self._round(1 - i)
        else:
            f = self._gate(0, f + looks[2] * c)
        c = self._round(f * c + i * self._gate(1, g))
        o = self._gate(0, o + looks[1] * c)
        return [self._round(o * self._sum(self.functions[2](c))), c]

    def _of(self, gate: int, x: Any) -> Any:
        bias = np.split(self.part["B"], 2 * GATES[self.layer.op])[gate]
        return np.split(self.part["W"], GATES[self.layer.op])[gate] @ x + bias

    def _recurrent(self, gate: int, h: Any) -> Any:
        count = GATES[self.layer.op]
        return np.split(self.part["R"], count)[gate] @ h + np.split(self.part["B"], 2 * count)[count + gate]

    def _gate(self, which: int, x: Any) -> Any:
        x = self._sum(x)
        if clip := self.layer.attributes.get("clip"):
            x = np.clip(x, -np.float32(clip), np.float32(clip))
        return self._round(self.functions[which](x))

    def _round(self, x: Any) -> Any:
        return self.rounding(self._sum(x)).astype(np.float64)

    def _sum(self, x: Any) -> Any:
        if self.exact and np.any(x.astype(np.float32) != x):
            raise InexactError
        return x


def model(layer: Layer, half: str | None) -> onnx.ModelProto:
    """A model of the layer in `half`, "FLOAT16" or "BFLOAT16", between Casts; FLOAT where it is None."""
    number = onnx.TensorProto.DataType.Value(half or "FLOAT")
    names = [name if name in layer.tensors else "" for name in INPUTS]
    ends = ["Y", "Y_h", "Y_c"][: 1 + STATES[layer.op]]
    feeds = {name: a for name, a in layer.tensors.items() if name in ("X", "initial_h", "initial_c")}
    given = [name + "_" if name in feeds else name for name in names]
    while not given[-1]:
        given.pop()
    nodes = [helper.make_node("Cast", [name], [f"{name}_"], to=number) for name in feeds]
    hidden = layer.tensors["R"].shape[-1]
    nodes.append(
        helper.make_node(
            layer.op, given, [f"{end}_" for end in ends], "layer", hidden_size=hidden, **layer.attributes
        )
    )
    nodes += [helper.make_node("Cast", [f"{end}_"], [end], to=1) for end in ends]
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info(name, 1, a.shape) for name, a in feeds.items()],
        [helper.make_tensor_value_info(end, 1, None) for end in ends],
        [_weight(name, a, number) for name, a in layer.tensors.items() if name not in feeds],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def _weight(name: str, array: Any, number: int) -> onnx.TensorProto:
    if name == "sequence_lens":
        return numpy_helper.from_array(np.asarray(array, np.int32), name)
    dtype = helper.tensor_dtype_to_np_dtype(number)
    return numpy_helper.from_array(np.asarray(array, np.float32).astype(dtype), name)
