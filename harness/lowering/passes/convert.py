"""Conversion to a newer opset by onnx's version converter, with its gaps closed.

1. Weights stay out of the converter and are shared by the result.
2. Node and tensor names stay.  The converter renames what it replaces; its replacement is found through the
   nodes that read it.
3. Resize and Upsample of opset 10 and older sampled asymmetrically, and nearest ones rounded up along axes
   that become shorter, down along others; the converter leaves that out.  Here it is written into the new
   Resize, or into two, first what shrinks, where there are both kinds of axes or the scales are computed.
4. Refused, because the converter would change what they compute: Dropout of opset 11 and older whose mask is
   read (False then, True now); Hardmax of opset 12 and older over any but the last axis; Scan of opset 8; and
   GroupNormalization that goes from below opset 21, where it scales groups, to above.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from harness.errors import ModelError, shorten
from harness.graph import names as onnx_names
from harness.graph.walk import all_nodes, all_values
from harness.lowering.edit import Editor
from harness.lowering.passes.naming import name_nodes
from harness.lowering.stubs import through

_SYMMETRIC_RESIZE = 11
_FLAT_HARDMAX = 13
_PLAIN_SCAN = 9
_MASK_OF_ONES = 12
_CHANNEL_SCALES = 21
CONVERTER_ERRORS = (onnx.version_converter.ConvertError, onnx.shape_inference.InferenceError)


def opset_of(model: ir.Model) -> int:
    """The version of the default operator set that `model` uses."""
    imports = model.graph.opset_imports
    return imports.get("", imports.get("ai.onnx", 1))


def at_opset(model: ir.Model, version: int) -> ir.Model:
    """`model` at opset `version`, or as it is where it is there already.  Raises ModelError."""
    start = opset_of(model)
    if start >= version:
        return model
    for node in all_nodes(model.graph):
        if _changes(node, start, version):
            raise ModelError(f"opset {start} to {version}: {node.op_type} {shorten(node.name)} would change")
    result = _converted(model, version)
    _restore_names(model, result)
    _restore_sampling(model, result)
    name_nodes(result)
    if lost := _names(model) - _names(result):
        raise ModelError(f"opset {start} to {version}: the conversion loses tensor {shorten(min(lost))}")
    return result


def _changes(node: ir.Node, opset: int, version: int) -> bool:
    if node.domain:
        return False
    if node.op_type == "GroupNormalization":
        return opset < _CHANNEL_SCALES <= version
    if node.op_type == "Dropout":
        return opset < _MASK_OF_ONES and any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    axis = node.attributes.get("axis")
    if node.op_type == "Hardmax":
        value, shape = node.inputs[0], None if node.inputs[0] is None else node.inputs[0].shape
        last = -1 if value is None or shape is None else len(shape) - 1
        return opset < _FLAT_HARDMAX and (1 if axis is None else axis.as_int()) not in (-1, last)
    return node.op_type == "Scan" and opset < _PLAIN_SCAN


def _converted(model: ir.Model, version: int) -> ir.Model:
    def change(proto: onnx.ModelProto) -> onnx.ModelProto:
        converted = onnx.version_converter.convert_version(proto, version)
        onnx_names.repair(converted)
        return converted

    try:
        return through(model, change)
    except (RuntimeError, ValueError, *CONVERTER_ERRORS) as error:
        reason = " ".join(str(error).split())
        start = opset_of(model)
        raise ModelError(f"opset {start} cannot be converted to {version}: {reason}") from error


def _names(model: ir.Model) -> set[str]:
    return {value.name for value in all_values(model) if value.name}


def _restore_names(before: ir.Model, after: ir.Model) -> None:
    """Rename what replaced a tensor or node of `before`, from the readers backwards."""
    known, kept = _names(before), _names(after)
    nodes = {node.name: node for node in all_nodes(after.graph)}
    for old in reversed(list(all_nodes(before.graph))):
        for value in old.outputs:
            for new in _replacements(value, nodes):
                if value.name and value.name not in kept and new.name not in known:
                    new.name = value.name
                    kept.add(value.name)
        _rename_maker(old, after, nodes)


def _replacements(value: ir.Value, nodes: dict[str | None, ir.Node]) -> Iterator[ir.Value]:
    """What the readers of `value` read in its place."""
    for user, index in value.uses():
        twin = nodes.get(user.name)
        new = twin.inputs[index] if twin is not None and index < len(twin.inputs) else None
        if new is not None and new.producer() is not None:
            yield new


def _rename_maker(old: ir.Node, after: ir.Model, nodes: dict[str | None, ir.Node]) -> None:
    """Give the node that makes an output of `old` its name, where nothing has it."""
    if old.name in nodes:
        return
    outputs = {value.name for value in old.outputs if value.name}
    for node in all_nodes(after.graph):
        if outputs & {value.name for value in node.outputs}:
            node.name = old.name
            nodes[old.name] = node
            return


def _restore_sampling(before: ir.Model, after: ir.Model) -> None:
    if opset_of(before) >= _SYMMETRIC_RESIZE:
        return
    resized = {n.name: n for n in all_nodes(before.graph) if n.op_type in ("Resize", "Upsample")}
    for node in list(all_nodes(after.graph)):
        if node.op_type == "Resize" and node.name in resized:
            mode = "coordinate_transformation_mode"
            node.attributes[mode] = ir.AttrString(mode, "asymmetric")
            if node.attributes.get_string("mode", "nearest") == "nearest":
                _round_as_before(node, Editor(after))


def _round_as_before(node: ir.Node, editor: Editor) -> None:
    """Rule 3 for a nearest Resize; axes are sampled one by one, so that two Resize do what one did."""
    scales = node.inputs[2]
    assert scales is not None
    fixed = None if scales.const_value is None else scales.const_value.numpy()
    shrinks, grows = fixed is None or fixed.min() < 1, fixed is None or fixed.max() > 1
    _set_rounding(node, "ceil" if shrinks and not grows else "floor")
    if shrinks and grows:
        _shrink_first(node, scales, editor)


def _shrink_first(node: ir.Node, scales: ir.Value, editor: Editor) -> None:
    """Put a Resize by what `scales` has below 1 in front of `node`, which keeps what is above."""
    name, (source, graph) = node.name or "", (node.inputs[0], node.graph)
    assert source is not None
    assert graph is not None
    one = ir.Value(name=editor.fresh(f"{name}__one"), const_value=ir.tensor([1.0], ir.DataType.FLOAT))
    one.type, one.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([1])
    graph.register_initializer(one)
    less, more, shrunk = (editor.fresh(f"{name}__{what}") for what in ("less", "more", "shrunk"))
    down, up = (ir.node(op, [scales, one], name=to) for op, to in (("Min", less), ("Max", more)))
    for bound in (down, up):
        bound.outputs[0].name, bound.outputs[0].type = bound.name, scales.type
    inputs = [source, None, down.outputs[0]]
    first = ir.node("Resize", inputs, {k: v.value for k, v in node.attributes.items()}, name=shrunk)
    first.outputs[0].name, first.outputs[0].type = shrunk, source.type
    _set_rounding(first, "ceil")
    graph.insert_before(node, (down, up, first))
    node.replace_input_with(0, first.outputs[0])
    node.replace_input_with(2, up.outputs[0])


def _set_rounding(node: ir.Node, rounding: str) -> None:
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", rounding)
