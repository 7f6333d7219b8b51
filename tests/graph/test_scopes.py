"""Nested graphs whose inputs hide names from outside, and local functions that would flood the memory."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import ModelError
from harness.graph import file as onnx_file
from harness.graph.functions import misuse
from harness.graph.walk import all_values
from harness.lowering.passes.normalise import normalise
from tests.helpers.lowering import run, to_proto

N, V, FLOAT = helper.make_node, helper.make_tensor_value_info, TensorProto.FLOAT


def loop(seed: int, depth: int = 2) -> onnx.ModelProto:
    """Loops in loops; inputs of bodies have names of outer inputs, weights and results at random."""
    rng = np.random.default_rng(seed)
    weights = {"n": np.array(2), "t": np.array(True), "w": np.full(4, 0.5, np.float32)}
    nodes, last = body(rng, ["x", "w"], "x", depth, "")
    graph = helper.make_graph(
        [*nodes, N("Mul", [last, "w"], ["y"], "last")],
        "g",
        [V("x", FLOAT, [4])],
        [V("y", FLOAT, [4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def body(
    rng: np.random.Generator, known: list[str], source: str, depth: int, prefix: str
) -> tuple[list[onnx.NodeProto], str]:
    """Nodes that add what is known to `source`, a Loop among them; and their result."""
    total, result = f"{prefix}a", f"{prefix}l"
    nodes = [N("Add", [source, str(rng.choice(known))], [total], f"{prefix}add")]
    if not depth:
        return nodes, total
    known = [*known, total]
    state = str(rng.choice([*known, f"{prefix}own"]))
    inner, made = body(rng, [*known, state], state, depth - 1, f"{prefix}i")
    keep = N("Identity", [f"{prefix}c"], [f"{prefix}d"], f"{prefix}keep")
    inside = helper.make_graph(
        [*inner, keep],
        "body",
        [V(f"{prefix}k", TensorProto.INT64, []), V(f"{prefix}c", TensorProto.BOOL, []), V(state, FLOAT, [4])],
        [V(f"{prefix}d", TensorProto.BOOL, []), V(made, FLOAT, [4])],
    )
    return [*nodes, N("Loop", ["n", "t", total], [result], f"{prefix}loop", body=inside)], result


@pytest.mark.parametrize("seed", range(30))
def test_an_input_of_a_nested_graph_may_have_a_name_from_outside(seed: int, tmp_path: Path) -> None:
    model = loop(seed)
    onnx.save(model, tmp_path / "m.onnx")
    made = normalise(onnx_file.read(tmp_path / "m.onnx"))
    names = [value.name for value in all_values(made)]
    assert len(set(names)) == len(names)
    feed = {"x": np.arange(4, dtype=np.float32)}
    want = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feed)
    np.testing.assert_array_equal(run(made, feed)["y"], want[0])
    onnx.checker.check_model(to_proto(made))


def test_the_generator_hides_names() -> None:
    hidden = 0
    for seed in range(30):
        outer = [node for node in loop(seed).graph.node if node.op_type == "Loop"]
        hidden += any(node.attribute[0].g.input[2].name in ("x", "w", "a") for node in outer)
    assert hidden > 10


def doubling(levels: int, circle: bool = False) -> onnx.ModelProto:
    """Functions that call the next one twice: two to the power of `levels` nodes in all."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    functions = []
    for level in range(levels):
        end = level == levels - 1
        name, domain = (f"f{0 if circle else level + 1}", "d") if circle or not end else ("Relu", "")
        calls = [N(name, ["x"], ["h"], domain=domain), N(name, ["h"], ["y"], domain=domain)]
        functions.append(helper.make_function("d", f"f{level}", ["x"], ["y"], calls, imports))
    graph = helper.make_graph(
        [N("f0", ["x"], ["y"], domain="d")], "g", [V("x", FLOAT, [1])], [V("y", FLOAT, [1])]
    )
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=8)


@pytest.mark.parametrize("levels", [21, 60, 2000])
def test_functions_that_double_are_counted_before_they_are_inlined(levels: int, tmp_path: Path) -> None:
    onnx.save(doubling(levels), tmp_path / "m.onnx")
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"m\.onnx: more than 1000000 nodes once"):
        onnx_file.read(tmp_path / "m.onnx")
    assert time.monotonic() - started < 20


def test_the_count_is_that_of_the_inlined_model(tmp_path: Path) -> None:
    assert misuse(doubling(20)) is not None
    assert misuse(doubling(19)) is None
    onnx.save(doubling(6), tmp_path / "m.onnx")
    assert len(normalise(onnx_file.read(tmp_path / "m.onnx")).graph) == 2**6


@pytest.mark.parametrize("levels", [1, 3])
def test_functions_in_a_circle_are_refused(levels: int, tmp_path: Path) -> None:
    onnx.save(doubling(levels, circle=True), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="calls itself, or one that does"):
        onnx_file.read(tmp_path / "m.onnx")


def test_a_model_of_wrong_types_is_one_line() -> None:
    swapped = helper.make_graph(
        [N("Gather", ["i", "x"], ["y"], "g")],
        "g",
        [V("x", FLOAT, [4])],
        [V("y", FLOAT, None)],
        [numpy_helper.from_array(np.array([1.0], np.float32), "i")],
    )
    model = helper.make_model(swapped, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
    with pytest.raises(ModelError, match=r"node name: g.*has unsupported type"):
        normalise(ir.serde.deserialize_model(model))
