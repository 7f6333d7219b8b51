"""What is said to be refused is refused by the real parser or builder, and nothing that it takes is."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.backends.tensorrt.bindings import Bindings
from harness.backends.tensorrt.builder.strong import create_network
from harness.backends.tensorrt.log import create_log, words
from harness.backends.tensorrt.network import parse_onnx
from harness.errors import BuildError, HarnessError
from harness.graph import file as onnx_file
from harness.lowering.passes.normalise import normalise
from harness.lowering.refusals import all_refusals
from harness.lowering.targets import NEVER, PLUGINS_OF_RTX, SINCE
from tests.helpers.tensorrt import rtx

SHARE = 10
"""One in so many of ONNX's node tests is parsed: all of them, 1,576, take minutes."""
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
MISSED = ("_expanded", "test_identity_opt", "test_identity_sequence")
"""Refused for shapes that a parser computes, or types of its own: not foreseen."""


def words_against(bindings: Bindings, model: ir.Model, path: Path, *, build: bool = False) -> str:
    """Why the parser, or the builder, refuses a model; empty if it takes it."""
    onnx_file.write(model, path)
    log = create_log(bindings.api)
    builder = bindings.api.Builder(log)
    network = create_network(bindings.api, builder)
    parser = bindings.api.OnnxParser(network, log)
    try:
        parse_onnx(parser, log, path)
        done = not build or builder.build_serialized_network(network, builder.create_builder_config())
        return "" if done else words(log.messages)
    except BuildError as error:
        return str(error)
    finally:
        del parser  # before the network that it writes to


def cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = {case.name: case for case in collect_testcases(None) if case.model is not None}
    return [case for name, case in every.items() if zlib.crc32(name.encode()) % SHARE == 0]


def taken(proto: onnx.ModelProto, path: Path) -> ir.Model | None:
    onnx.save(proto, path)
    try:
        return normalise(onnx_file.read(path))
    except HarnessError:
        return None


def foreseen(model: ir.Model) -> list[str]:
    return [one.words() for one in all_refusals(model) if one.by("tensorrt_rtx")]


@pytest.mark.slow
def test_the_parser_takes_what_is_not_refused_here(tmp_path: Path) -> None:
    bindings, path, false, missed, seen = rtx(), tmp_path / "m.onnx", [], [], [0, 0]
    for case in cases():
        model = taken(case.model, path)
        if model is None:
            continue
        said, why = words_against(bindings, model, path), foreseen(model)
        seen[bool(said)] += 1
        if why and not said:
            false.append(f"{case.name}: {why[0]}")
        if said and not why and not case.name.endswith(MISSED):
            missed.append(f"{case.name}: {said}")
    assert false == []
    assert missed == []
    assert min(seen) > 40


def test_the_parser_knows_the_operators_that_are_said_to_be_known() -> None:
    bindings = rtx()
    log = create_log(bindings.api)
    network = create_network(bindings.api, bindings.api.Builder(log))
    parser = bindings.api.OnnxParser(network, log)
    schemas = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    unknown = {name for name in schemas if not parser.supports_operator(name)}
    integer = {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
    assert unknown - integer - PLUGINS_OF_RTX <= NEVER
    assert {name for name in SINCE if not parser.supports_operator(name)} <= PLUGINS_OF_RTX


def model(
    nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **weights: Any
) -> onnx.ModelProto:
    values = [
        [helper.make_tensor_value_info(name, *spec) for name, spec in part.items()]
        for part in (inputs, outputs)
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    domains = {node.domain for node in nodes}
    graph = helper.make_graph(nodes, "g", *values, stored)
    opsets = [helper.make_opsetid(domain, 19 if not domain else 1) for domain in {"", *domains}]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


X, Y = {"x": (FLOAT, [2, 4])}, {"y": (FLOAT, [2, 4])}
node = helper.make_node


def cast(source: str, made: str, to: int = FLOAT) -> Any:
    return node("Cast", [source], [made], to=to)


def constant(array: Any) -> onnx.ModelProto:
    return model([cast("c", "d"), node("Add", ["x", "d"], ["y"])], X, Y, c=array)


def scatter(op_type: str, indices: Any, updates: Any, reduction: str) -> onnx.ModelProto:
    one = node(op_type, ["x", "i", "u"], ["y"], reduction=reduction)
    return model([one], X, Y, i=np.array(indices), u=np.array(updates, np.float32))


MODELS = {
    "an INT8 constant": (constant(np.ones((2, 4), np.int8)), True),
    "an INT16 constant": (constant(np.ones((2, 4), np.int16)), True),
    "a UINT8 constant": (constant(np.ones((2, 4), np.uint8)), False),
    "an INT16 input": (model([cast("x", "y")], {"x": (TensorProto.INT16, [2, 4])}, Y), True),
    "an INT8 input": (model([cast("x", "y")], {"x": (TensorProto.INT8, [2, 4])}, Y), False),
    "a UINT8 input": (model([cast("x", "y")], {"x": (TensorProto.UINT8, [2, 4])}, Y), False),
    "UINT8 inside": (model([cast("x", "z", TensorProto.UINT8), cast("z", "y")], X, Y), True),
    "INT8 inside": (model([cast("x", "z", TensorProto.INT8), cast("z", "y")], X, Y), False),
    "ai.onnx.ml": (
        model([node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])], X, Y),
        True,
    ),
    "com.microsoft": (model([node("QuickGelu", ["x"], ["y"], domain="com.microsoft")], X, Y), True),
    "com.microsoft by name": (model([node("Gelu", ["x"], ["y"], domain="com.microsoft")], X, Y), False),
    "ScatterND that adds": (scatter("ScatterND", [[0]], [[1, 2, 3, 4]], "add"), True),
    "ScatterND": (scatter("ScatterND", [[0]], [[1, 2, 3, 4]], "none"), False),
    "ScatterElements that adds": (scatter("ScatterElements", [[0, 1]], [[1, 2]], "add"), True),
    "ScatterElements": (scatter("ScatterElements", [[0, 1]], [[1, 2]], "none"), False),
    "NonZero": (model([node("NonZero", ["x"], ["y"])], X, {"y": (INT64, [2, "n"])}), True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_builder_agrees(name: str, tmp_path: Path) -> None:
    proto, refused = MODELS[name]
    found = taken(proto, tmp_path / "m.onnx")
    assert found is not None
    assert bool(foreseen(found)) == refused
    assert bool(words_against(rtx(), found, tmp_path / "m.onnx", build=True)) == refused
