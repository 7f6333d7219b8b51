"""Faults of the model that an engine is built from: weights, attributes, conventions, scales.

An edit changes a model in place and says whether it found something to change; `at`, in [0, 1), picks which.
Names stay, so that plans and calibrated ranges still fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
Edit = Callable[[onnx.ModelProto, float], bool]
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Gather")


def weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initializers by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def put(tensor: onnx.TensorProto, values: Array) -> None:
    """Other values for an initializer."""
    dtype = numpy_helper.to_array(tensor).dtype
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, dtype), tensor.name))


def matrices(model: onnx.ModelProto, ops: tuple[str, ...] = WEIGHTED) -> list[onnx.TensorProto]:
    """Float weights of two axes or more that nodes of `ops` read, each once."""
    known, found = weights(model), {}
    for node in model.graph.node:
        for name in node.input if node.op_type in ops else ():
            tensor = known.get(name)
            if tensor is not None and tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
                found[name] = tensor
    return list(found.values())


def _on_weight(change: Callable[[Array, float], Array | None]) -> Edit:
    """An edit of one weight."""

    def edit(model: onnx.ModelProto, at: float) -> bool:
        found = matrices(model)
        if not found:
            return False
        tensor = found[int(at * len(found))]
        changed = change(numpy_helper.to_array(tensor).copy(), at)
        if changed is not None:
            put(tensor, changed)
        return changed is not None

    return edit


def _part(value: float) -> Callable[[Array, float], Array | None]:
    """One index of the first axis times a factor."""

    def change(array: Array, at: float) -> Array | None:
        array[int(at * 7919) % array.shape[0]] *= np.asarray(value, array.dtype)
        return array

    return change


def _last_axis_part(array: Array, at: float) -> Array | None:
    array[..., int(at * 7919) % array.shape[-1]] *= -1
    return array


def _transposed(array: Array, at: float) -> Array | None:
    same = array.ndim >= 2 and array.shape[0] == array.shape[1]
    return array.swapaxes(0, 1) if same else array.swapaxes(-1, -2).reshape(array.shape)


def _bits(count: int) -> Callable[[Array, float], Array | None]:
    def change(array: Array, at: float) -> Array | None:
        step = np.abs(array).max() / (2 ** (count - 1) - 1)
        return np.round(array / step) * step if step else None

    return change


def _swapped(model: onnx.ModelProto, at: float) -> bool:
    """Two weights of one shape, each in the other's place."""
    found = matrices(model)
    pairs = [(a, b) for k, a in enumerate(found) for b in found[k + 1 :] if list(a.dims) == list(b.dims)]
    if not pairs:
        return False
    one, other = pairs[int(at * len(pairs))]
    values = numpy_helper.to_array(one).copy()
    put(one, numpy_helper.to_array(other))
    put(other, values)
    return True


def _vectors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [t for t in weights(model).values() if t.data_type == onnx.TensorProto.FLOAT and _is_vector(t)]


def _is_vector(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) >= 1 and int(np.prod(tensor.dims)) == max(tensor.dims) > 1


def _on_vector(change: Callable[[Array], Array]) -> Edit:
    """An edit of a bias, a scale, a mean or a variance."""

    def edit(model: onnx.ModelProto, at: float) -> bool:
        found = _vectors(model)
        if found:
            tensor = found[int(at * len(found))]
            put(tensor, change(numpy_helper.to_array(tensor).copy()))
        return bool(found)

    return edit


def _nodes(model: onnx.ModelProto, *ops: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in ops]


def _pick(found: list[Any], at: float) -> Any:
    return found[int(at * len(found))] if found else None


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _get(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def attribute(ops: tuple[str, ...], name: str, value: Callable[[Any], Any], default: Any = None) -> Edit:
    """Another value of an attribute of one node; `value` gives None where there is nothing to change."""

    def edit(model: onnx.ModelProto, at: float) -> bool:
        fit = [n for n in _nodes(model, *ops) if value(_get(n, name, default)) is not None]
        if (node := _pick(fit, at)) is None:
            return False
        _set(node, name, value(_get(node, name, default)))
        return True

    return edit


def operator(ops: tuple[str, ...], other: str, **attributes: Any) -> Edit:
    """One node computes another function."""

    def edit(model: onnx.ModelProto, at: float) -> bool:
        if (node := _pick(_nodes(model, *ops), at)) is None:
            return False
        del node.attribute[:], node.input[1:]
        node.op_type = other
        node.attribute.extend(helper.make_attribute(n, v) for n, v in attributes.items())
        return True

    return edit


def inputs(ops: tuple[str, ...], order: Callable[[list[str]], list[str] | None]) -> Edit:
    """The inputs of one node in another order, or some left out."""

    def edit(model: onnx.ModelProto, at: float) -> bool:
        fit = [n for n in _nodes(model, *ops) if order(list(n.input)) is not None]
        if (node := _pick(fit, at)) is None:
            return False
        changed = order(list(node.input)) or []
        del node.input[:]
        node.input.extend(changed)
        return True

    return edit


def _constants(low: float, high: float, factor: float, *ops: str) -> Edit:
    """A scalar constant of `low` to `high` that nodes of `ops` read, times `factor`."""

    def edit(model: onnx.ModelProto, at: float) -> bool:
        read = {name for node in _nodes(model, *ops) for name in node.input}
        fit = [t for n, t in weights(model).items() if n in read and _scalar_within(t, low, high)]
        if (tensor := _pick(fit, at)) is None:
            return False
        put(tensor, numpy_helper.to_array(tensor) * np.float32(factor))
        return True

    return edit


def _scalar_within(tensor: onnx.TensorProto, low: float, high: float) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims or [1])) != 1:
        return False
    return low <= abs(float(numpy_helper.to_array(tensor).reshape(-1)[0])) <= high


def _at_the_end(pads: Any) -> list[int] | None:
    """The same padding, all of it at the end of each axis."""
    if not pads or not any(pads[: len(pads) // 2]):
        return None
    half = len(pads) // 2
    return [0] * half + [a + b for a, b in zip(pads[:half], pads[half:], strict=True)]


def _axis_before(axis: int) -> int | None:
    return axis - 1 if axis in (-1, 2, 3) else None


def _other_gates(array: Array, at: float) -> Array | None:
    return np.roll(array, array.shape[-2] // 4, -2) if array.ndim == 3 else None


def _other_mode(wanted: str) -> Callable[[Any], Any]:
    def value(mode: Any) -> Any:
        text = mode.decode() if isinstance(mode, bytes) else mode
        return None if text == wanted else wanted

    return value


EPSILON = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization")
RECURRENT = ("LSTM", "GRU", "RNN")

EDITS: Mapping[str, Edit] = {
    "two weights swapped": _swapped,
    "a weight transposed": _on_weight(_transposed),
    "a weight zeroed": _on_weight(lambda a, at: np.zeros_like(a)),
    "a weight off by 1.1": _on_weight(lambda a, at: a * 1.1),
    "a weight off by 2": _on_weight(lambda a, at: a * 2),
    "a filter zeroed": _on_weight(_part(0.0)),
    "a filter off by 4": _on_weight(_part(4.0)),
    "a filter off by 1.25": _on_weight(_part(1.25)),
    "a filter negated": _on_weight(_part(-1.0)),
    "the last axis of a weight negated at one index": _on_weight(_last_axis_part),
    "filters in reverse": _on_weight(lambda a, at: a[::-1]),
    "a weight in 4 bits": _on_weight(_bits(4)),
    "a weight in 3 bits": _on_weight(_bits(3)),
    "a bias dropped": _on_vector(np.zeros_like),
    "a bias doubled": _on_vector(lambda a: 2 * a),
    "a bias in reverse": _on_vector(lambda a: a[::-1]),
    "a bias moved by one": _on_vector(lambda a: np.roll(a, 1)),
    "epsilon times 1000": attribute(EPSILON, "epsilon", lambda e: e * 1000, 1e-5),
    "epsilon times 30": attribute(EPSILON, "epsilon", lambda e: e * 30, 1e-5),
    "an epsilon constant times 1000": _constants(1e-12, 1e-3, 1000, "Add"),
    "mean and variance swapped": inputs(
        ("BatchNormalization",), lambda names: [*names[:3], names[4], names[3]]
    ),
    "scale and bias swapped": inputs(
        ("BatchNormalization", "LayerNormalization"),
        lambda names: [names[0], names[2], names[1], *names[3:]] if len(names) > 2 else None,
    ),
    "padding all at the end": attribute(
        ("Conv", "MaxPool", "AveragePool"), "pads",
        _at_the_end,
    ),
    "padding not counted": attribute(("AveragePool",), "count_include_pad", lambda c: 0 if c else None, 0),
    "padding counted": attribute(("AveragePool",), "count_include_pad", lambda c: None if c else 1, 0),
    "Resize by asymmetric corners": attribute(
        ("Resize",), "coordinate_transformation_mode", _other_mode("asymmetric"), "half_pixel"
    ),
    "Resize by aligned corners": attribute(
        ("Resize",), "coordinate_transformation_mode", _other_mode("align_corners"), "half_pixel"
    ),
    "Resize to the nearest": attribute(("Resize",), "mode", _other_mode("nearest"), "nearest"),
    "Resize rounding down": attribute(("Resize",), "nearest_mode", _other_mode("floor"), "ceil"),
    "Relu left out": operator(("Relu", "LeakyRelu"), "Identity"),
    "LeakyRelu as Relu": operator(("LeakyRelu",), "Relu"),
    "Relu cut at 1": operator(("Relu",), "HardSigmoid", alpha=1.0, beta=0.0),
    "Erf as Tanh": operator(("Erf",), "Tanh"),
    "Sigmoid as HardSigmoid": operator(("Sigmoid",), "HardSigmoid"),
    "Tanh as Softsign": operator(("Tanh",), "Softsign"),
    "Softmax over the axis before": attribute(("Softmax",), "axis", _axis_before, -1),
    "Softmax left out": operator(("Softmax",), "Identity"),
    "max pooled for mean": operator(("AveragePool",), "Identity"),
    "the attention's scale dropped": _constants(0.05, 0.9, 3.0, "Mul", "Div"),
    "a scalar factor off by 1.1": _constants(1e-3, 1e4, 1.1, "Mul", "Div"),
    "a mask ten thousand times weaker": _constants(1e3, 1e38, 1e-4, "Mul", "Where"),
    "gates in another order": _on_weight(_other_gates),
    "the reset gate on the other side": attribute(("GRU",), "linear_before_reset", lambda v: 1 - v, 0),
    "the direction reversed": attribute(RECURRENT, "direction", _other_mode("reverse"), "forward"),
    "the initial state left out": inputs(
        RECURRENT, lambda names: [*names[:5], ""] if len(names) > 5 and names[5] else None
    ),
    "parts joined in another order": inputs(("Concat",), lambda names: names[::-1] if names[1:] else None),
    "a difference the other way": inputs(("Sub",), lambda names: names[::-1]),
    "a residual left out": inputs(("Add",), lambda names: [names[0], names[0]]),
}  # fmt: skip
"""Edits of the FP32 model, before it is lowered."""


def _scales(change: Callable[[Array, float], Array], ops: tuple[str, ...]) -> Edit:
    """An edit of a quantizer's scale in the lowered model, in every node that reads it."""

    def edit(model: onnx.ModelProto, at: float) -> bool:
        known, read = weights(model), [n.input[1] for n in _nodes(model, *ops)]
        fit = [known[name] for name in dict.fromkeys(read) if name in known]
        if (tensor := _pick(fit, at)) is None:
            return False
        put(tensor, change(numpy_helper.to_array(tensor).astype(np.float32), at))
        return True

    return edit


def _one(factor: float) -> Callable[[Array, float], Array]:
    def change(array: Array, at: float) -> Array:
        flat = array.reshape(-1)
        flat[int(at * flat.size)] *= factor
        return flat.reshape(array.shape)

    return change


QUANTIZE = ("QuantizeLinear",)
EITHER = ("QuantizeLinear", "DequantizeLinear")
SCALES: Mapping[str, Edit] = {
    "one scale four times too large": _scales(lambda a, at: a * 4, QUANTIZE),
    "one scale eight times too large": _scales(lambda a, at: a * 8, QUANTIZE),
    "one scale four times too small": _scales(lambda a, at: a / 4, QUANTIZE),
    "one scale half": _scales(lambda a, at: a / 2, QUANTIZE),
    "one channel's scale four times too large": _scales(_one(4.0), EITHER),
    "one channel's scale four times too small": _scales(_one(0.25), EITHER),
    "a weight's scales moved by one": _scales(lambda a, at: np.roll(a, 1), EITHER),
}
"""Edits of the quantized model, after it is lowered."""


def names() -> Iterator[str]:
    """All edits."""
    yield from EDITS
    yield from SCALES
