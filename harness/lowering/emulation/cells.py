"""One step of GRU, LSTM and RNN, after the operators' definitions in ONNX, in FP32 with rounded results.

What a gate's activation gives and what the new state is are rounded to 16 bits; what lies between is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from harness.lowering.emulation.writer import Writer

States = tuple[ir.Value, ...]
Applied = Callable[[Writer, ir.Value], ir.Value]

_FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class Activation:
    """One of ONNX's activation functions of recurrent operators, with its parameters."""

    name: str
    alpha: float
    beta: float

    def __call__(self, write: Writer, x: ir.Value) -> ir.Value:
        """The function of `x`, written."""
        return _WRITTEN[self.name](write, x, self.alpha, self.beta)


@dataclass(frozen=True)
class Cell:
    """What every step of one direction has in common.

    `half`: the type that gates and states are rounded to, None for no rounding.  `weights`: the transposed
    recurrent weights by gate; `biases`: recurrent biases that a gate adds by itself; `peepholes`: by gate.
    """

    half: ir.DataType | None
    activations: tuple[Activation, ...]
    clip: float
    weights: tuple[ir.Value, ...]
    biases: Mapping[int, ir.Value]
    peepholes: Mapping[int, ir.Value]
    coupled: bool = False

    def rounded(self, write: Writer, x: ir.Value) -> ir.Value:
        """`x` rounded to `half`, in FLOAT."""
        if self.half is None:
            return x
        narrow = write("Cast", x, dtype=self.half, to=int(self.half))
        return write("Cast", narrow, to=int(_FLOAT))

    def gate(self, write: Writer, which: int, x: ir.Value) -> ir.Value:
        """Activation number `which` of `x`, clipped before and rounded behind."""
        if self.clip > 0:
            x = write("Clip", x, write.number(-self.clip), write.number(self.clip))
        return self.rounded(write, self.activations[which](write, x))

    def recurrent(self, write: Writer, gate: int, x: ir.Value, h: ir.Value) -> ir.Value:
        """`x` and what the state `h` adds to `gate`."""
        return write("Add", x, write("MatMul", h, self.weights[gate]))

    def peeped(self, write: Writer, gate: int, x: ir.Value, c: ir.Value) -> ir.Value:
        """`x` and what the cell state `c` adds to `gate`, if it may look."""
        if gate not in self.peepholes:
            return x
        return write("Add", x, write("Mul", self.peepholes[gate], c))


def rnn(write: Writer, cell: Cell, x: Sequence[ir.Value], state: States) -> States:
    """Ht = f(Xt·W + Ht-1·R + b)."""
    (h,) = state
    return (cell.gate(write, 0, cell.recurrent(write, 0, x[0], h)),)


def gru(write: Writer, cell: Cell, x: Sequence[ir.Value], state: States) -> States:
    """Gates z, r and h: Ht = (1 - z)·h + z·Ht-1."""
    (h,) = state
    z, r = (cell.gate(write, 0, cell.recurrent(write, k, x[k], h)) for k in (0, 1))
    if 2 in cell.biases:  # linear before reset
        inner = write("Add", write("MatMul", h, cell.weights[2]), cell.biases[2])
        hidden = write("Add", x[2], write("Mul", r, inner))
    else:
        hidden = cell.recurrent(write, 2, x[2], write("Mul", r, h))
    new = cell.gate(write, 1, hidden)
    one_less = write("Sub", write.number(1), z)
    mixed = write("Add", write("Mul", one_less, new), write("Mul", z, h))
    return (cell.rounded(write, mixed),)


def lstm(write: Writer, cell: Cell, x: Sequence[ir.Value], state: States) -> States:
    """Gates i, o, f and c: Ct = f·Ct-1 + i·c, Ht = o·h(Ct)."""
    h, c = state
    before = [cell.recurrent(write, k, x[k], h) for k in range(4)]
    i = cell.gate(write, 0, cell.peeped(write, 0, before[0], c))
    if cell.coupled:
        f = cell.rounded(write, write("Sub", write.number(1), i))
    else:
        f = cell.gate(write, 0, cell.peeped(write, 2, before[2], c))
    new = cell.gate(write, 1, before[3])
    c = cell.rounded(write, write("Add", write("Mul", f, c), write("Mul", i, new)))
    o = cell.gate(write, 0, cell.peeped(write, 1, before[1], c))
    return cell.rounded(write, write("Mul", o, cell.activations[2](write, c))), c


def activations_of(node: ir.Node, directions: int) -> list[tuple[Activation, ...]]:
    """The functions of each direction; parameters that the attributes do not give are ONNX's defaults."""
    each = len(DEFAULTS[node.op_type])
    given = node.attributes.get("activations")
    names = [name.lower() for name in (given.as_strings() if given else DEFAULTS[node.op_type])]
    names = names if len(names) == each * directions else names[:each] * directions
    alphas, betas = _floats(node, "activation_alpha"), _floats(node, "activation_beta")
    found = [Activation(n, _next(alphas, _ALPHA.get(n)), _next(betas, _BETA.get(n))) for n in names]
    return [tuple(found[k * each : (k + 1) * each]) for k in range(directions)]


def _floats(node: ir.Node, name: str) -> Iterator[float]:
    given = node.attributes.get(name)
    return iter(given.as_floats() if given else ())


def _next(given: Iterator[float], default: float | None) -> float:
    """The next given parameter for a function that takes one."""
    return 0.0 if default is None else next(given, default)


def _scaled_tanh(write: Writer, x: ir.Value, alpha: float, beta: float) -> ir.Value:
    return write("Mul", write.number(alpha), write("Tanh", write("Mul", write.number(beta), x)))


def _affine(write: Writer, x: ir.Value, alpha: float, beta: float) -> ir.Value:
    return write("Add", write("Mul", write.number(alpha), x), write.number(beta))


DEFAULTS = MappingProxyType(
    {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
)
STEPS = MappingProxyType({"RNN": rnn, "GRU": gru, "LSTM": lstm})
GATES = MappingProxyType({"RNN": 1, "GRU": 3, "LSTM": 4})

_ALPHA = {
    "affine": 1.0,
    "leakyrelu": 0.01,
    "thresholdedrelu": 1.0,
    "scaledtanh": 1.0,
    "hardsigmoid": 0.2,
    "elu": 1.0,
}
_BETA = {"affine": 0.0, "scaledtanh": 1.0, "hardsigmoid": 0.5}
_WRITTEN: Mapping[str, Callable[[Writer, ir.Value, float, float], ir.Value]] = {
    "sigmoid": lambda write, x, _a, _b: write("Sigmoid", x),
    "tanh": lambda write, x, _a, _b: write("Tanh", x),
    "relu": lambda write, x, _a, _b: write("Relu", x),
    "softplus": lambda write, x, _a, _b: write("Softplus", x),
    "softsign": lambda write, x, _a, _b: write("Softsign", x),
    "leakyrelu": lambda write, x, a, _b: write("LeakyRelu", x, alpha=a),
    "thresholdedrelu": lambda write, x, a, _b: write("ThresholdedRelu", x, alpha=a),
    "elu": lambda write, x, a, _b: write("Elu", x, alpha=a),
    "hardsigmoid": lambda write, x, a, b: write("HardSigmoid", x, alpha=a, beta=b),
    "scaledtanh": _scaled_tanh,
    "affine": _affine,
}
