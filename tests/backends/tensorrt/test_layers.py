"""Layers of engines out of the inspector's JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.tensorrt.layers import (
    count_precisions,
    dtype_of,
    layers_from_json,
)
from harness.backends.tensorrt.network import node_of
from harness.errors import BuildError

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


@pytest.mark.parametrize(
    ("metadata", "node"),
    [("[ONNX Layer: a]b/c:0]", "a]b/c:0"), ("", None), ("mine", None), ("[ONNX Layer: ]", "")],
)
def test_the_node_is_found_in_metadata(metadata: str, node: str | None) -> None:
    assert node_of(metadata) == node


@pytest.mark.parametrize(
    ("said", "node"),
    [
        ("conv | made by torch: a | b", "conv"),
        ("ta | then (then_branch) | iff (If)", "ta"),
        ("fc | Local Function: linear", "fc"),
        ("a | b | words", "a | b"),
        ("a | b", "a | b"),
        ("a | bc", "a"),
    ],
)
def test_what_parsers_put_behind_a_nodes_name_is_cut(said: str, node: str) -> None:
    assert node_of(f"[ONNX Layer: {said}]", ["a | b"]) == node


N_A = "N/A due to dynamic shapes"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([N_A, "Int8", "Half"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["Layers", "Name", "LayerType", "Inputs", "Outputs", "Weights", "Dimensions", "Type",
                         "Count", "Metadata", "Format/Datatype", "Datatype", "Constants"]), inner, max_size=5
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_any_answer_of_the_inspector_is_layers_or_one_error(answer: object) -> None:
    try:
        layers = layers_from_json(json.dumps({"Layers": answer}))
    except BuildError:
        return
    assert sum(count_precisions(layers).values()) == len(layers)
