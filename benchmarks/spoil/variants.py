"""Right engines that differ in the last digits: none of them may raise an alarm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from benchmarks.spoil.bench import Bench
from benchmarks.spoil.build import changed, opened
from benchmarks.spoil.edits import Edit, matrices, put, weights
from benchmarks.spoil.engines import Array, Call, Kept, Outputs, Spoiler
from benchmarks.spoil.whole import scores_axis
from harness.lowering.lower import lower
from harness.lowering.model import Ranges

ULP = {"fp32": 2.0**-23, "fp16": 2.0**-10, "bf16": 2.0**-7, "int8": 2.0**-23, "int8+fp16": 2.0**-10}
"""The distance from 1 to the next number of what an engine's outputs are in."""
Change = Callable[[Array, Call, float], Array]


def _each(change: Change, ulp: float) -> Spoiler:
    """A change of every float output."""

    def spoiler(call: Call) -> Outputs:
        floats = {n: a for n, a in call.outputs.items() if a.dtype == np.float32}
        return call.outputs | {n: change(a, call, ulp).astype(a.dtype) for n, a in floats.items()}

    return spoiler


def _noise(array: Array, call: Call, ulp: float) -> Array:
    return array * (1 + ulp * call.rng().uniform(-1, 1, array.shape))


def _by_batch(array: Array, call: Call, ulp: float) -> Array:
    """Other kernels at another shape: all numbers off by half an ulp, up or down by the shape alone."""
    up = sum(sum(shape) for shape in call.shapes.values()) % 2
    return array * (1 + (0.5 if up else -0.5) * ulp)


def _flushed(array: Array, call: Call, ulp: float) -> Array:
    return np.where(np.abs(array) < np.finfo(np.float32).smallest_normal, 0, array)


def _negative_zeros(array: Array, call: Call, ulp: float) -> Array:
    return np.where(array == 0, -np.zeros_like(array), array)


def _short(array: Array, call: Call, ulp: float) -> Array:
    """Rounded to the bits of the precision, at most TF32's 10, to nearest even."""
    step = np.exp2(np.floor(np.log2(np.maximum(np.abs(array), 1e-30)))) * ulp
    return np.round(array / step) * step


def _towards_zero(array: Array, call: Call, ulp: float) -> Array:
    step = np.exp2(np.floor(np.log2(np.maximum(np.abs(array), 1e-30)))) * ulp
    return np.trunc(array / step) * step


def _near_ties(array: Array, call: Call, ulp: float) -> Array:
    """The two best swapped where they are within 2 ulps of each other."""
    axis = scores_axis(array)
    if axis is None:
        return array
    order = np.argsort(array, axis)
    best, second = (np.take(order, [-k], axis) for k in (1, 2))
    high, low = np.take_along_axis(array, best, axis), np.take_along_axis(array, second, axis)
    tie = high - low <= 2 * ulp * np.abs(high)
    out = array.copy()
    np.put_along_axis(out, best, np.where(tie, low, high), axis)
    np.put_along_axis(out, second, np.where(tie, high, low), axis)
    return out


def _other_layout(call: Call) -> Outputs:
    """The same numbers in memory of another order."""
    return {n: np.asfortranarray(a) if a.ndim > 1 else a[::-1].copy()[::-1] for n, a in call.outputs.items()}


def _as_stored(call: Call) -> Outputs:
    """Outputs in double precision: another width of the same kind."""
    return {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in call.outputs.items()}


def at_outputs(bench: Bench) -> dict[str, Spoiler]:
    """Variants that are made of the right engine's outputs.

    Errors that all point one way are no roundings where outputs are fed to the next step: there they add up.
    """
    ulp = ULP[str(bench.precision)]
    coarse = max(ulp, 2.0**-10) if bench.precision != "fp32" else ulp
    one_way = {
        "half an ulp up or down by shape": _each(_by_batch, ulp),
        "rounded towards zero": _each(_towards_zero, ulp),
    }
    return {
        **({} if bench.spec.loop else one_way),
        "noise of an ulp": _each(_noise, ulp),
        "denormals flushed": _each(_flushed, ulp),
        "negative zeros": _each(_negative_zeros, ulp),
        "rounded as TF32 or the precision rounds": _each(_short, coarse),
        "near ties decided otherwise": _each(_near_ties, ulp),
        "another layout of memory": _other_layout,
        "outputs in double precision": _as_stored,
    }


def _reordered(model: onnx.ModelProto, at: float) -> bool:
    """Every sum of a MatMul, a Gemm or a Conv in another order: inputs and weights permuted alike."""
    known, nodes, done = weights(model), list(model.graph.node), False
    found: list[onnx.NodeProto] = []
    for node in nodes:
        if (plan := _sum_axes(node, known)) is None:
            found.append(node)
            continue
        axis, weight_axis, tensor = plan
        order = np.random.default_rng(int(at * 1e6)).permutation(tensor.dims[weight_axis]).astype(np.int64)
        index, permuted = f"{node.output[0]}__order", f"{node.output[0]}__permuted"
        own = numpy_helper.from_array(
            np.take(numpy_helper.to_array(tensor), order, weight_axis), f"{index}_weight"
        )
        model.graph.initializer.extend([numpy_helper.from_array(order, index), own])
        found.append(helper.make_node("Gather", [node.input[0], index], [permuted], permuted, axis=axis))
        node.input[0], node.input[1] = permuted, own.name
        found.append(node)
        done = True
    del model.graph.node[:]
    model.graph.node.extend(found)
    return done


def _sum_axes(
    node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]
) -> tuple[int, int, onnx.TensorProto] | None:
    """The axis summed over of the first input and of the weight; None where there is no such sum."""
    tensor = known.get(node.input[1]) if len(node.input) > 1 else None
    if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
        return None
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "MatMul" and len(tensor.dims) == 2:
        return -1, 0, tensor
    if node.op_type == "Gemm" and not given.get("transA", 0):
        return 1, 1 if given.get("transB", 0) else 0, tensor
    if node.op_type == "Conv" and given.get("group", 1) == 1:
        return 1, 1, tensor
    return None


def _weights_within(ulp: float) -> Edit:
    """Every weight off by up to half an ulp, as another exporter rounds them."""

    def edit(model: onnx.ModelProto, at: float) -> bool:
        rng = np.random.default_rng(int(at * 1e6))
        for tensor in (found := matrices(model)):
            values = numpy_helper.to_array(tensor)
            put(tensor, values * (1 + ulp / 2 * rng.uniform(-1, 1, values.shape)))
        return bool(found)

    return edit


def builds(bench: Bench) -> dict[str, Edit]:
    """Variants that are built from another, equal model."""
    ulp = min(ULP[str(bench.precision)], 2.0**-10)
    return {"sums in another order": _reordered, "weights within half an ulp": _weights_within(ulp)}


@contextmanager
def built(bench: Bench, edit: Edit, at: float) -> Iterator[Kept | None]:
    """The engine of an equal model; None where there is nothing to change."""
    model = changed(bench.subject.normalised, edit, at)
    if model is None:
        yield None
        return
    plan = bench.subject.plan(bench.precision)
    with opened(bench, lower(model, plan, _ranges(model, bench.subject.ranges(plan)))) as engine:
        yield engine


def _ranges(model: ir.Model, ranges: Ranges | None) -> Ranges | None:
    """The calibrated ranges, also for what was permuted."""
    if ranges is None:
        return None
    moved = {str(n.outputs[0].name): str(n.inputs[0].name) for n in model.graph if n.op_type == "Gather"}  # type: ignore[union-attr]
    return {**ranges, **{new: ranges[old] for new, old in moved.items() if old in ranges}}
