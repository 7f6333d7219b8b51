"""What the parsers and builders of TensorRT refuse, by rules about single nodes and tensors.

Each rule names its source as `targets` does.  What a rule does not know of a node (a value that is computed,
a type that is not inferred) it does not refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from harness.errors import shorten
from harness.graph.walk import all_nodes
from harness.lowering.deployable import Refusal
from harness.lowering.targets import BY_NAME, FIRST, NEVER, PLUGINS_OF_RTX, SINCE, UNTYPED, Version

PLUGIN = "load a plugin for it (build.plugins), or export without it"
COMPOSE = "compose it of other operators when exporting"
CONSTANT = "export with a constant there"

Rule = Callable[[ir.Node], Iterator[Refusal]]


def refusals(model: ir.Model, plugins: frozenset[str] = frozenset()) -> Iterator[Refusal]:
    """What some target refuses in the normalised `model`; `plugins`: domains that have one."""
    for value in model.graph.inputs:
        yield from _input(value)
    for node in all_nodes(model.graph):
        if node.domain and node.domain in plugins:
            continue
        rules = (_domain,) if node.domain else _RULES
        for rule in rules:
            for found in rule(node):
                yield replace(found, node=node.name or "")


def _input(value: ir.Value) -> Iterator[Refusal]:
    if isinstance(value.type, ir.SequenceType | ir.OptionalType):
        yield Refusal(f"input {shorten(value.name)} is no tensor", "give tensors")
    if value.dtype is not None and value.dtype.name in UNTYPED:
        reason = f"input {shorten(value.name)} is of type {value.dtype.name}, which TensorRT lacks"
        yield Refusal(reason, "make it INT32, INT64 or FLOAT when exporting")


def _domain(node: ir.Node) -> Iterator[Refusal]:
    if node.domain == "com.microsoft" and node.op_type in BY_NAME:
        return
    way_out = PLUGIN
    if node.domain.startswith(("com.microsoft", "ai.onnx.ml")):
        way_out = "export with operators of ONNX: an ONNX Runtime optimizer or converter put this in"
    yield Refusal(f"{node.op_type} of domain {shorten(node.domain)} needs a plugin", way_out)


def _operator(node: ir.Node) -> Iterator[Refusal]:
    if node.op_type in NEVER:
        yield Refusal(f"TensorRT has no {node.op_type}", COMPOSE)
    elif node.op_type in SINCE or node.op_type in PLUGINS_OF_RTX:
        since, plugin = SINCE.get(node.op_type, FIRST), node.op_type in PLUGINS_OF_RTX
        yield Refusal(f"{node.op_type} {_from(since, plugin)}", COMPOSE, since, plugin)


def _from(since: Version, plugin: bool) -> str:
    return (
        "needs a plugin that TensorRT-RTX lacks"
        if plugin
        else f"is known from TensorRT {since[0]}.{since[1]} on"
    )


def _types(node: ir.Node) -> Iterator[Refusal]:
    """[RTX 1.7] for the tensors that a node makes and the constants that it reads."""
    for value in node.outputs:
        if value.dtype is not None and value.dtype.name in UNTYPED:
            yield Refusal(f"makes {value.dtype.name}, a type that TensorRT lacks", "cast to another type")
        elif value.dtype == ir.DataType.UINT8 and not value.is_graph_output():
            yield Refusal("makes UINT8, which may only be an input or output", "cast to INT32")
    for read in node.inputs:
        if read is not None and read.dtype is not None:
            yield from _read(node, read, read.dtype)


def _read(node: ir.Node, value: ir.Value, dtype: ir.DataType) -> Iterator[Refusal]:
    """[RTX 1.7] for a tensor that a node reads."""
    if _is_weight(value) and dtype.name in UNTYPED:
        yield Refusal(f"reads a constant of type {dtype.name}", "store another type")
    if _is_weight(value) and dtype == ir.DataType.INT8 and node.op_type not in _QDQ:
        yield Refusal("reads an INT8 constant, which only DequantizeLinear may", "store INT32 or FLOAT")
    if dtype == ir.DataType.INT8 and node.op_type == "Clip":
        yield Refusal("Clip of INT8", "cast it to INT32 first")
    if dtype == ir.DataType.UINT8 and value.is_graph_input() and node.op_type in _NOT_OF_UINT8:
        yield Refusal("computes in UINT8, which may only be cast", "cast the input to INT32 first")


_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
_NOT_OF_UINT8 = frozenset(
    {
        "Abs", "Add", "ArgMax", "ArgMin", "Clip", "Concat", "DepthToSpace", "Div", "Expand", "Flatten",
        "Floor", "Gather", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "MaxPool", "Min",
        "Mod", "Mul", "Neg", "Pad", "Pow", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Resize", "Sign",
        "Slice", "SpaceToDepth", "Split", "Sub", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators asked with a UINT8 input [RTX 1.7]; Cast, Equal, Identity and Shape take one."""
_NORMS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_REDUCE = frozenset({f"Reduce{name}" for name in _NORMS})
_INDEXED: Mapping[str, tuple[int, Version | None]] = {"CumSum": (1, (10, 8)), "Slice": (3, (10, 3))}
"""Inputs that must be constants in versions before the one named [8.6], [log]."""


def _constants(node: ir.Node) -> Iterator[Refusal]:
    """Inputs that a parser wants to know: [8.6], [10.1], [10.15] for axes, [RTX 1.7]."""
    if node.op_type in _REDUCE and _open(node, 1):
        yield Refusal(f"{node.op_type} with axes that are computed", CONSTANT)
    if node.op_type in ("Squeeze", "Unsqueeze") and _open(node, 1):
        yield Refusal(f"{node.op_type} with axes that are computed", CONSTANT, (10, 7), _given(node, 1))
    if node.op_type in _INDEXED and _open(node, _INDEXED[node.op_type][0]):
        yield Refusal(
            f"{node.op_type} with axes that are computed", CONSTANT, _INDEXED[node.op_type][1], rtx=False
        )
    if node.op_type == "STFT" and (_open(node, 1) or _open(node, 2)):
        yield Refusal("STFT with a step or window that is no constant", CONSTANT)
    if node.op_type in ("Resize", "Upsample") and _given(node, 2 if node.op_type == "Resize" else 1):
        yield Refusal(f"{node.op_type} with scales that are an input", "resize by constant scales")
    if node.op_type == "EyeLike" and any(not isinstance(size, int) for size in _shape(node.inputs[0]) or ()):
        yield Refusal("EyeLike of a shape that is not fixed", "export with a fixed shape")
    if node.op_type == "TopK" and (k := _value(node, 1)) is not None and k > 3840:
        yield Refusal(f"TopK of {k}: more than 3840", "take fewer")


def _training(node: ir.Node) -> Iterator[Refusal]:
    """[10.1]; [RTX 1.7] for both."""
    batch = node.op_type == "BatchNormalization" and _attribute(node, "training_mode", 0)
    dropped = node.op_type == "Dropout" and (_open(node, 2) or _value(node, 2))
    if batch or dropped:
        yield Refusal(f"{node.op_type} in training mode", "export the model in evaluation mode")


def _outputs(node: ir.Node) -> Iterator[Refusal]:
    """[8.6], [10.1] and [10.15] for both."""
    if node.op_type in ("LayerNormalization", "MaxPool") and any(_used(value) for value in node.outputs[1:]):
        yield Refusal(f"{node.op_type} has its first output only", "export without the others")


def _pooling(node: ir.Node) -> Iterator[Refusal]:
    """[10.1], [10.15], [RTX 1.7]."""
    if node.op_type not in ("AveragePool", "MaxPool", "LpPool"):
        return
    if any(size != 1 for size in _attribute(node, "dilations", ())):
        yield Refusal(f"{node.op_type} with dilations", COMPOSE)
    if node.op_type == "LpPool" and _attribute(node, "p", 2) not in (1, 2):
        yield Refusal("LpPool of a norm other than L1 and L2", COMPOSE)


def _scattering(node: ir.Node) -> Iterator[Refusal]:
    """[10.1], [10.15] for ScatterND; [log] 10.0 for ScatterElements, by a plugin; [RTX 1.7] refuses both."""
    reduction = _attribute(node, "reduction", "none")
    if node.op_type == "ScatterND" and reduction != "none":
        yield Refusal(f"ScatterND with reduction {reduction!r}", "add up what is scattered in other ways")
    if node.op_type == "ScatterElements" and reduction != "none":
        yield Refusal(f"ScatterElements with reduction {reduction!r}", COMPOSE, (10, 0))


_MODES = frozenset(
    {"align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn"}
)


def _resizing(node: ir.Node) -> Iterator[Refusal]:
    """[8.6], [10.1], [10.15]; [RTX 1.7]."""
    if node.op_type != "Resize":
        return
    mode = _attribute(node, "coordinate_transformation_mode", "half_pixel")
    if mode not in _MODES:
        yield Refusal(f"Resize in mode {mode!r}", f"use one of {', '.join(sorted(_MODES))}")
    if _attribute(node, "antialias", 0):
        yield Refusal("Resize with antialiasing", "export without")
    if _attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        yield Refusal("Resize that keeps the aspect ratio", "export with the policy 'stretch'")
    axes, rank = _attribute(node, "axes", ()), len(_shape(node.inputs[0]) or ())
    by_scales = len(node.inputs) > 2 and node.inputs[2] is not None
    if axes and by_scales and rank and list(axes) != list(range(rank)):
        yield Refusal("Resize of some axes by scales", "give sizes, or scales of all axes")


def _attention(node: ir.Node) -> Iterator[Refusal]:
    """[10.15]; [RTX 1.7]."""
    if node.op_type != "Attention":
        return
    if _attribute(node, "softcap", 0.0):
        yield Refusal("Attention with softcap", COMPOSE)
    if any(_used(value) for value in node.outputs[1:]) or any(v is not None for v in node.inputs[4:6]):
        yield Refusal("Attention with past, present or more than one output", COMPOSE)
    if len(node.inputs) > 3 and node.inputs[3] is not None and _attribute(node, "is_causal", 0):
        yield Refusal("Attention that is causal and has a mask", "put the causal mask into the other")
    key, value = (_shape(one) or () for one in node.inputs[1:3])
    if key and value and key[-1] != value[-1]:
        yield Refusal("Attention with keys and values of different sizes", COMPOSE)


def _tensor_scatter(node: ir.Node) -> Iterator[Refusal]:
    """[RTX 1.7]."""
    if node.op_type != "TensorScatter":
        return
    if _attribute(node, "mode", "linear") != "linear":
        yield Refusal("TensorScatter in a mode other than 'linear'", COMPOSE)
    if (shape := _shape(node.inputs[0])) is not None and len(shape) != 4:
        yield Refusal("TensorScatter of a cache that has not 4 axes", COMPOSE)


def _products(node: ir.Node) -> Iterator[Refusal]:
    """[RTX 1.7]."""
    if node.op_type == "MatMul":
        left, right = (len(_shape(one) or ()) for one in node.inputs)
        if left == 1 and right > 2:
            yield Refusal("MatMul of a vector by a stack of matrices", "make the vector a matrix", FIRST)


def _rest(node: ir.Node) -> Iterator[Refusal]:
    """[8.6] for Einsum with [log] 10.12; [log] 10.0 for Pad; [10.1] for Pad's axes with [log] 10.4."""
    if node.op_type == "Einsum" and "..." in str(_attribute(node, "equation", "")):
        yield Refusal("Einsum with an ellipsis", "write its axes out", (10, 12), rtx=False)
    if node.op_type == "Pad" and _attribute(node, "mode", "constant") == "wrap":
        yield Refusal("Pad that wraps", COMPOSE, (10, 0), rtx=False)
    if node.op_type == "Pad" and _open(node, 3):
        yield Refusal("Pad with axes that are computed", CONSTANT, (10, 4), rtx=False)


_RULES: tuple[Rule, ...] = (
    _operator, _types, _constants, _training, _outputs, _pooling, _scattering, _resizing, _attention,
    _tensor_scatter, _products, _rest,
)  # fmt: skip


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    found = node.attributes.get(name)
    return default if found is None or found.is_ref() else found.value


def _is_weight(value: ir.Value) -> bool:
    return value.const_value is not None


def _open(node: ir.Node, index: int) -> bool:
    """Whether an input is there and no constant."""
    value = node.inputs[index] if len(node.inputs) > index else None
    return value is not None and value.const_value is None


def _given(node: ir.Node, index: int) -> bool:
    """Whether an input is there and an input of the graph."""
    value = node.inputs[index] if len(node.inputs) > index else None
    return value is not None and value.const_value is None and value.is_graph_input()


def _value(node: ir.Node, index: int) -> int | None:
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    return int(value.const_value.numpy().reshape(-1)[0])


def _shape(value: ir.Value | None) -> tuple[Any, ...] | None:
    return None if value is None or value.shape is None else tuple(value.shape)


def _used(value: ir.Value) -> bool:
    return value.is_graph_output() or bool(value.uses())
