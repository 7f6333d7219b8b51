"""The rules of a spec that need the ONNX model: names, ranks, sizes, dtypes, FP32 patterns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

import onnx_ir as ir

from harness.errors import ModelError, SpecError, shorten
from harness.precision import matches
from harness.spec.errors import dotted
from harness.spec.loop import Fed
from harness.spec.model_spec import DType, LoopSpec, ModelSpec, OutputSpec, ShapeRange

_NO_NUMBERS = frozenset({ir.DataType.STRING, ir.DataType.COMPLEX64, ir.DataType.COMPLEX128})


def check_against_model(spec: ModelSpec, model: ir.Model, original: ir.Model | None = None) -> None:
    """Check what `spec` says of `model`; FP32 patterns are held against the node names of this very model.

    Pass the normalised model, which names nodes that had no name; `original` is the model before, whose nodes
    explain a pattern that matches none any more.  Raises SpecError for the first rule
    that is broken, ModelError for an input or output that is no tensor.
    """
    inputs = model_inputs(model)
    _check_names(spec, "inputs", spec.inputs, inputs)
    _check_missing(spec, inputs)
    for name, value in inputs.items():
        _check_dtype(spec, name, value)
        _check_shapes(spec, name, value)
    _check_symbols(spec, inputs)
    outputs = [str(value.name) for value in model.graph.outputs]
    _check_names(spec, "outputs", spec.outputs, outputs)
    for value in model.graph.outputs:
        _check_compared(spec, value)
    if all(name in spec.outputs and spec.outputs[name].compare == "ignore" for name in outputs):
        raise _error(spec, "outputs", outputs, "all are ignored, which leaves nothing to compare")
    if spec.task and spec.task.output is not None:
        _check_known(spec, "task.output", spec.task.output, outputs, "output")
    _check_patterns(spec, model, original)
    if spec.loop is not None:
        _check_loop(spec, spec.loop, model)


def model_inputs(model: ir.Model) -> dict[str, ir.Value]:
    """Inputs that must be fed, by name: graph inputs that no initializer gives a default."""
    initializers = set(model.graph.initializers)
    return {str(v.name): v for v in model.graph.inputs if v.name not in initializers}


def sizes_of(value: ir.Value) -> tuple[int | None, ...] | None:
    """Static sizes of a tensor, None on dynamic axes; None for an unknown rank."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def dtype_name(value: ir.Value) -> str:
    """The NumPy dtype name of a tensor.  Raises ModelError where no spec can name it (strings, sequences)."""
    name = str(value.dtype.numpy().name) if value.dtype is not None else "unknown"
    if name not in get_args(DType):
        raise ModelError(
            f"tensor {value.name!r} has element type {value.dtype}: only numbers and bools are taken"
        )
    return name


def incomparable(value: ir.Value) -> str | None:
    """What an output holds that cannot be compared with a reference; None for numbers and bools."""
    if value.type is None or (isinstance(value.type, ir.TensorType) and value.type.dtype not in _NO_NUMBERS):
        return None
    return str(value.type)


def _check_compared(spec: ModelSpec, value: ir.Value) -> None:
    own = spec.outputs.get(str(value.name), OutputSpec()).compare
    if own != "ignore" and (what := incomparable(value)):
        rule = f"the output is {what}, which cannot be compared: must be ignore"
        raise _error(spec, dotted(("outputs", str(value.name), "compare")), own, rule)


def _check_names(spec: ModelSpec, key: str, named: Iterable[str], known: Iterable[str]) -> None:
    for name in named:
        _check_known(spec, dotted((key, name)), name, known, key.removesuffix("s"))


def _check_known(spec: ModelSpec, key: str, name: str, known: Iterable[str], what: str) -> None:
    names = list(known)
    if name not in names:
        close = difflib.get_close_matches(name[:200], names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(map(repr, names[:20]))}"
        raise _error(spec, key, name, f"the model has no such {what}{hint}")


def _check_missing(spec: ModelSpec, inputs: Mapping[str, ir.Value]) -> None:
    for name in inputs:
        if name not in spec.inputs:
            raise _error(spec, "inputs", list(spec.inputs), f"the model has an input {name!r} besides")


def _check_dtype(spec: ModelSpec, name: str, value: ir.Value) -> None:
    declared, real = spec.inputs[name].dtype, dtype_name(value)
    if declared != real:
        raise _error(spec, dotted(("inputs", name, "dtype")), declared, f"the model's input is {real}")


def _check_shapes(spec: ModelSpec, name: str, value: ir.Value) -> None:
    sizes = sizes_of(value)
    for index, profile in enumerate(spec.profiles):
        shapes, key = profile.shapes[name], dotted(("profiles", index, "shapes", name))
        if sizes is not None and len(sizes) != len(shapes.opt):
            rule = f"has rank {len(shapes.opt)}, the model's input has rank {len(sizes)}"
            raise _error(spec, key, list(shapes.opt), rule)
        for axis, size in enumerate(sizes or ()):
            _check_static(spec, key, shapes, axis, size)


def _check_symbols(spec: ModelSpec, inputs: Mapping[str, ir.Value]) -> None:
    """Axes that the model gives one name have one size: TensorRT holds them to it."""
    for index, profile in enumerate(spec.profiles):
        for bound in ("min", "opt", "max"):
            known: dict[str, tuple[str, int]] = {}
            for name, axis, symbol in _symbols(inputs):
                size, key = getattr(profile.shapes[name], bound)[axis], f"{bound}[{axis}]"
                other, first = known.setdefault(symbol, (f"{name!r}.{key}", size))
                if size != first:
                    rule = f"the model calls this axis {symbol!r}, as it does that of {other} = {first}"
                    place = dotted(("profiles", index, "shapes", name))
                    raise _error(spec, f"{place}.{key}", size, rule)


def _symbols(inputs: Mapping[str, ir.Value]) -> Iterator[tuple[str, int, str]]:
    """Name, axis and symbol of every axis of an input that has one."""
    for name, value in inputs.items():
        for axis, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int) and dim.value:
                yield name, axis, dim.value


def _check_loop(spec: ModelSpec, loop: LoopSpec, model: ir.Model) -> None:
    """The outputs that a loop reads are there, and may become the inputs that they go to."""
    outputs = {str(value.name): value for value in model.graph.outputs}
    for output, fed in loop.feed.items():
        key = dotted(("loop", "feed", output))
        _check_known(spec, key, output, outputs, "output")
        if why := _misfit(outputs[output], model_inputs(model)[fed.to], fed):
            raise _error(spec, key, fed.to, why)
    if loop.tokens is not None:
        _check_known(spec, "loop.tokens.from", loop.tokens.logits, outputs, "output")
        if not dtype_name(model_inputs(model)[loop.tokens.to]).startswith(("int", "uint")):
            raise _error(
                spec, "loop.tokens.to", loop.tokens.to, "tokens are whole numbers, this input's are not"
            )


def _misfit(output: ir.Value, target: ir.Value, fed: Fed) -> str | None:
    """Why an output cannot become an input; None where nothing speaks against it."""
    if dtype_name(output) != dtype_name(target):
        return f"the output is {dtype_name(output)}, this input {dtype_name(target)}"
    ours, theirs = sizes_of(output), sizes_of(target)
    if ours is None or theirs is None:
        return None
    if len(ours) != len(theirs):
        return f"the output has {len(ours)} axes, this input {len(theirs)}"
    along = fed.window.axis if fed.window else fed.grow if fed.grow is not None else fed.roll
    if along is not None and along >= len(ours):
        return f"there is no axis {along}: the output has {len(ours)}"
    for axis, (size, wanted) in enumerate(zip(ours, theirs, strict=True)):
        if None not in (size, wanted) and size != wanted and axis != along:
            return f"axis {axis} of the output is {size}, of this input {wanted}"
    return None


def _check_static(spec: ModelSpec, key: str, shapes: ShapeRange, axis: int, size: int | None) -> None:
    for bound in ("min", "opt", "max"):
        asked = getattr(shapes, bound)[axis]
        if size is not None and asked != size:
            rule = f"the model fixes axis {axis} at {size}"
            raise _error(spec, f"{key}.{bound}[{axis}]", asked, rule)


def _check_patterns(spec: ModelSpec, model: ir.Model, original: ir.Model | None) -> None:
    nodes = [(str(node.name), node.op_type) for node in model.graph.all_nodes()]
    for precision in spec.precision:
        plan = spec.plan(precision)
        for lost in plan.unmatched(nodes):
            kind = "fp32_nodes" if lost in plan.fp32_nodes else "fp32_op_types"
            if original is not None and (gone := _removed(lost, kind, original)):
                raise _error(spec, dotted(("precision", str(precision), kind)), lost, gone)
            known = sorted({name if kind == "fp32_nodes" else op_type for name, op_type in nodes})
            close = difflib.get_close_matches(lost[:200], known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            rule = f"matches no {'node name' if kind == 'fp32_nodes' else 'op type'} of the model{hint}"
            raise _error(spec, dotted(("precision", str(precision), kind)), lost, rule)


def _removed(pattern: str, kind: str, original: ir.Model) -> str | None:
    """What became of the nodes that `pattern` names in the model's file; None where it names none there."""
    functions = [node for function in original.functions.values() for node in function]
    for node in (*original.graph.all_nodes(), *functions):
        named = matches(pattern, node.name or "") if kind == "fp32_nodes" else node.op_type == pattern
        if not named:
            continue
        if (node.domain, node.op_type, node.overload) in original.functions:
            why = "a call of a local function, which is replaced by the function's nodes"
        elif node.op_type == "Constant":
            why = "a Constant, which becomes a weight: keep the node that reads it instead"
        else:
            why = f"a {node.op_type}, which lowering replaces: functions are inlined, old opsets raised"
        return f"names {shorten(node.name or '')}, {why}"
    return None


def _error(spec: ModelSpec, key: str, value: object, rule: str) -> SpecError:
    return SpecError(spec.path or spec.name, key, value, rule)
