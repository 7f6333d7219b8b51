"""Layers of engines out of the inspector's JSON and the builder's list, and what the audit makes of them."""

from __future__ import annotations

import json

import pytest

from harness.backends.tensorrt.audit.check import audit, missing_precisions, narrowed, narrowed_layers
from harness.backends.tensorrt.builder.build import Built
from harness.backends.tensorrt.layers import (
    EngineLayer,
    EngineTensor,
    count_precisions,
    dtype_of,
    layer_of_node,
    layers_from_dump,
    layers_from_json,
)
from harness.backends.tensorrt.network import NetworkLayer, NetworkTensor, node_of
from harness.errors import BuildError
from harness.precision import Precision

OLD = {
    "Layers": [
        {
            "Name": "conv + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Dimensions": [1, 3], "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Name": "r", "Dimensions": [1, 8], "Format/Datatype": "Channel major FP16 format"}],
            "Weights": {"Type": "Half", "Count": 216},
            "Bias": {"Type": "Half", "Count": 8},
            "TacticValue": "0x1234",
            "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]",
        }
    ]
}
NEW = {
    "Layers": [
        {
            "Name": "fc_myl0_5",
            "LayerType": "gemm",
            "Inputs": [
                {"Name": "f", "Dimensions": [-1, 8], "Datatype": "Half", "Format": "Row major linear"}
            ],
            "Outputs": [{"Name": "m", "Dimensions": [-1, 10], "Datatype": "Float", "Format": "Row major"}],
            "Constants": [{"Name": "w", "Dimensions": [8, 10], "Datatype": "Int8", "Format": "Row major"}],
            "TacticName": "sm80_gemm",
            "Metadata": "[ONNX Layer: fc]\x1f[ONNX Layer: fc]",
        }
    ]
}


def test_the_schema_up_to_10_is_read() -> None:
    (layer,) = layers_from_json(json.dumps(OLD))
    assert (layer.name, layer.tactic, layer.nodes) == ("conv + relu", "0x1234", ("conv", "relu"))
    assert [t.dtype for t in (*layer.inputs, *layer.outputs)] == ["FP32", "FP16"]
    assert [(c.dtype, c.count) for c in layer.constants] == [("FP16", 216), ("FP16", 8)]
    assert layer.precision == "FP16+FP32"


def test_the_later_schema_is_read() -> None:
    (layer,) = layers_from_json(json.dumps(NEW))
    assert (layer.tactic, layer.nodes) == ("sm80_gemm", ("fc",))
    assert [(c.dtype, c.count) for c in layer.constants] == [("INT8", 80)]
    assert layer.inputs[0].count == 0


def test_names_alone_are_layers_too() -> None:
    assert [layer.name for layer in layers_from_json('{"Layers": ["a", "b"]}')] == ["a", "b"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"Bindings": []}'])
def test_what_has_no_layers_is_an_error(text: str) -> None:
    with pytest.raises(BuildError, match="has no layers"):
        layers_from_json(text)


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        ("Row major linear FP32", "FP32"),
        ("Float", "FP32"),
        ("Half", "FP16"),
        ("Channel major FP16 format where channel % 8 == 0", "FP16"),
        ("BFloat16", "BF16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "INT8"),
        ("Row major Int64", "INT64"),
        ("FP8", "FP8"),
        ("Bool", "BOOL"),
        ("something else", ""),
    ],
)
def test_types_are_found_in_words(words: str, dtype: str) -> None:
    assert dtype_of(words) == dtype


LINEAR = "(Linear) Row major linear format"


def listed(name: str, dims: str, dtype: str) -> str:
    """A tensor as the builder lists it."""
    strides = f"Strides: [{dims}], StrideOrder: [{dims}]"
    return f"{{ Name: {name}, Dimensions: [{dims}], {strides}, Datatype: {dtype}, Format: {LINEAR} }}"


DUMP = (
    "Layers:\n"
    "Name: shape_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , "
    "StreamId: 0, Metadata: \n"
    f"Name: fc_myl0_5, LayerType: gemm, Inputs: [ {listed('x:0', '-1,8', 'Half')}], "
    f"Constants: [ {listed('w', '8,10', 'Half')}, {listed('alpha', '1', 'Float')}], "
    f"Outputs: [ {listed('m', '-1,10', 'Half')}], TacticName: cask, StreamId: 0, "
    "Metadata: [ONNX Layer: fc]\x1f[ONNX Layer: m/cast]\n\nI/O Tensors:\n Name: x, IOMode: Input"
)


def test_the_builders_list_is_read() -> None:
    shape, gemm = layers_from_dump(DUMP)
    assert (shape.name, shape.precision, shape.nodes) == ("shape_0", "other", ())
    assert (gemm.type, gemm.tactic, gemm.nodes) == ("gemm", "cask", ("fc", "m/cast"))
    assert [(t.name, t.dtype) for t in gemm.inputs] == [("x:0", "FP16")]
    assert [(c.name, c.dtype, c.count) for c in gemm.constants] == [("w", "FP16", 80), ("alpha", "FP32", 1)]


def test_the_list_of_rtx_1_4_is_read() -> None:
    given = "{ Name: m, Dimensions: [-1,8], Format/Datatype: Float }"
    weight = "{ Name: k, Dimensions: [8], Format/Datatype: Half }"
    made = "{ Name: y, Dimensions: [-1,10], Format/Datatype: Half }"
    text = (
        f"Layers:\nName: fc_myl0_4, LayerType: gemm, Inputs: [ {given}, {weight}], Outputs: [ {made}], "
        "TacticName: stub, StreamId: 0, Metadata: [ONNX Layer: fc]\n\nBindings:\nx\ny"
    )
    (layer,) = layers_from_dump(text)
    assert [(t.name, t.dtype, t.count) for t in layer.inputs] == [("m", "FP32", 0), ("k", "FP16", 8)]
    assert (layer.outputs[0].dtype, layer.nodes, layer.constants) == ("FP16", ("fc",), ())


def test_a_line_of_another_form_keeps_its_name() -> None:
    (layer,) = layers_from_dump("Layers:\nName: odd, LayerType: new, Something: else\n")
    assert (layer.name, layer.type) == ("odd", "")


def test_no_list_is_no_layers() -> None:
    assert layers_from_dump("") == ()


@pytest.mark.parametrize(
    ("metadata", "node"),
    [("[ONNX Layer: a]b/c:0]", "a]b/c:0"), ("", None), ("mine", None), ("[ONNX Layer: ]", "")],
)
def test_the_node_is_found_in_metadata(metadata: str, node: str | None) -> None:
    assert node_of(metadata) == node


def tensor(dtype: str, count: int = 0) -> EngineTensor:
    return EngineTensor("t", dtype, "", count)


def engine_layer(nodes: tuple[str, ...], given: str, weights: str, out: str, count: int = 9) -> EngineLayer:
    return EngineLayer("L", "gemm", "", nodes, (tensor(given),), (tensor(out),), (tensor(weights, count),))


def network_layer(node: str, kind: str, dtype: str) -> NetworkLayer:
    return NetworkLayer(f"{node} layer", kind, node, (), (NetworkTensor("t", dtype, (1,)),))


NETWORK = (network_layer("fc", "MATRIX_MULTIPLY", "FLOAT"), network_layer("relu", "ACTIVATION", "HALF"))


def test_a_kept_node_in_half_is_found_in_the_network() -> None:
    found = list(narrowed(NETWORK, ["fc", "relu"]))
    assert found == ["node 'relu' stays FP32 in the plan, but layer 'relu layer' is FP16"]


@pytest.mark.parametrize(
    ("layer", "kept", "problems"),
    [
        (engine_layer(("fc", "cast"), "FP16", "FP16", "FP16"), ["fc"], 1),
        (engine_layer(("fc",), "FP32", "FP16", "FP32"), ["fc"], 0),
        (engine_layer(("fc",), "FP32", "FP32", "FP16"), ["fc"], 0),
        (engine_layer(("fc",), "FP16", "FP32", "FP16", count=1), ["fc"], 1),
        (engine_layer(("fc",), "FP16", "FP16", "FP16"), [], 0),
        (engine_layer(("relu",), "FP16", "FP16", "FP16"), ["relu"], 0),
    ],
)
def test_a_kept_product_in_half_is_found_in_the_engine(
    layer: EngineLayer, kept: list[str], problems: int
) -> None:
    assert len(list(narrowed_layers((layer,), NETWORK, kept))) == problems


def test_a_layer_with_products_of_other_nodes_says_nothing_of_the_kept_one() -> None:
    network = (*NETWORK, network_layer("other", "CONVOLUTION", "HALF"))
    fused = engine_layer(("fc", "other"), "FP16", "FP16", "FP16")
    assert not list(narrowed_layers((fused,), network, ["fc"]))


def built(engine: tuple[EngineLayer, ...] = (), network: tuple[NetworkLayer, ...] = NETWORK) -> Built:
    return Built("1", network, ("x",), ("y",), engine, ("WARNING: w",), 0.5)


@pytest.mark.parametrize(
    ("precision", "engine", "missing"),
    [
        (Precision.FP16, (engine_layer((), "FP32", "FP32", "FP32"),), []),  # in the network
        (Precision.BF16, (engine_layer((), "FP32", "FP32", "FP32"),), ["BF16"]),
        (Precision.INT8, (engine_layer((), "INT8", "INT8", "FP32"),), []),
        (Precision.INT8, (engine_layer((), "FP32", "FP32", "FP32"),), ["INT8"]),
        (Precision.INT8_FP16, (), ["INT8"]),
        (Precision.FP32, (), []),
    ],
)
def test_a_precision_that_nothing_has_is_a_problem(
    precision: Precision, engine: tuple[EngineLayer, ...], missing: list[str]
) -> None:
    found = list(missing_precisions(built(engine), precision))
    assert [text.split("no layer has ")[1].split()[0] for text in found] == missing


def test_an_output_that_is_gone_is_a_problem() -> None:
    assert audit(built(), Precision.FP32, [], ["y", "z"]).problems == (
        "outputs missing from the engine: ['z']",
    )


def test_the_audit_counts_engine_layers_and_else_network_layers() -> None:
    half = engine_layer(("fc",), "FP16", "FP16", "FP16")
    assert audit(built((half, half)), Precision.FP16, [], []).nodes == {"FP16": 2}
    assert audit(built(), Precision.FP16, [], []).nodes == {"FP16": 1, "FP32": 1}
    found = audit(built((half,)), Precision.FP16, [], [])
    assert found.messages == ("WARNING: w",)
    assert found.details["nodes_in_engine"] == 1


def test_layers_are_counted_and_mapped() -> None:
    layers = (
        engine_layer(("a", "b"), "INT8", "INT8", "FP32"),
        engine_layer(("b",), "INT32", "INT32", "INT32"),
    )
    assert count_precisions(layers) == {"INT8": 1, "other": 1}
    assert layer_of_node(layers) == {"a": ("L",), "b": ("L", "L")}


def test_a_schema_that_renames_types_fails_the_audit() -> None:
    layers = layers_from_json(json.dumps(NEW).replace("Datatype", "ElementType"))
    assert list(missing_precisions(built(layers), Precision.INT8)) != []
