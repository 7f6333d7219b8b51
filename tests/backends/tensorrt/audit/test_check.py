"""What the audit makes of layers: kept promises, broken ones, and what is not known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.backends.tensorrt.audit.check import audit, missing_precisions, narrowed, narrowed_layers
from harness.backends.tensorrt.builder.build import Built
from harness.backends.tensorrt.dump import layers_from_dump
from harness.backends.tensorrt.layers import (
    EngineLayer,
    EngineTensor,
    completed,
    count_precisions,
    layer_of_node,
    layers_from_json,
)
from harness.backends.tensorrt.network import NetworkLayer, NetworkTensor
from harness.precision import Precision
from tests.backends.tensorrt.test_dump import OLD_LIST
from tests.backends.tensorrt.test_layers import N_A, NEW


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


def test_a_schema_that_renames_types_is_not_known() -> None:
    layers = layers_from_json(json.dumps(NEW).replace("Datatype", "ElementType"))
    found = audit(built(layers), Precision.INT8, [], [])
    assert found.problems == ()
    assert found.nodes == {"unknown": 1}
    assert found.unknown == (
        "not known: whether a layer has INT8: 1 of 1 engine layers do not tell their types",
    )


def inspected(weights: str = "") -> str:
    tensors = {"Inputs": [{"Name": "q", "Dimensions": [-1, 3], "Format/Datatype": N_A}],
               "Outputs": [{"Name": "r", "Dimensions": [-1, 4], "Format/Datatype": N_A}]}  # fmt: skip
    conv = {"Name": "conv + relu", "LayerType": "CaskConvolution", **tensors}
    if weights:
        conv["Weights"] = {"Type": weights, "Count": 9408}
    return json.dumps({"Layers": [conv, {**conv, "Name": "conv + relu [profile 1]"}]})


def test_layers_are_counted_once_for_all_profiles() -> None:
    assert len(layers_from_json(inspected())) == 1


@pytest.mark.parametrize(("weights", "precision"), [("", "unknown"), ("Int8", "INT8"), ("Half", "FP16")])
def test_types_that_shapes_hide_are_those_of_the_weights_or_not_known(weights: str, precision: str) -> None:
    layers = layers_from_json(inspected(weights))
    assert count_precisions(layers) == {precision: 1}
    found = audit(built(layers), Precision.INT8, [], [])
    assert found.problems == ()
    assert bool(found.unknown) == (weights != "Int8")


def test_types_that_the_inspector_hides_are_those_that_the_builder_listed() -> None:
    (layer,) = completed(layers_from_json(inspected()), layers_from_dump(OLD_LIST).layers)
    assert (layer.precision, layer.told) == ("INT8", True)


def test_a_line_that_is_not_understood_makes_nothing_a_problem_or_a_pass() -> None:
    half = engine_layer(("fc",), "FP16", "FP16", "FP16")
    found = audit(replace(built((half,)), unread=("Name: odd",)), Precision.INT8, [], [])
    assert found.problems == ()
    assert found.unknown[0] == "not known: 1 line of its layers is in no known form: 'Name: odd'"
    assert len(found.unknown) == 2


def test_weak_networks_tell_no_types() -> None:
    assert audit(built(), Precision.INT8, [], []).problems != ()
    found = audit(built(), Precision.INT8, [], [], weak=True)
    assert found.problems == ()
    assert found.unknown == ("not known: whether a layer has INT8: no engine layer is listed",)


def test_a_kept_node_that_no_layer_names_is_not_known() -> None:
    assert audit(built(), Precision.FP16, ["lost"], [], weak=True).unknown == (
        "not known: node 'lost' stays FP32 in the plan, but no network layer is said to come from it",
    )
    named = (engine_layer(("relu",), "FP16", "FP16", "FP16"),)
    assert audit(built(named), Precision.FP16, ["fc"], []).unknown == (
        "not known: node 'fc' stays FP32 in the plan, but no engine layer tells its precision",
    )


def myelin_gemm(given: str, weights: str) -> EngineLayer:
    """A product as TensorRT 10 lists it: weights, alpha, beta and bias are inputs."""
    inputs = (tensor(given, 4096), tensor(weights, 4096000), *(tensor("FP32", 1),) * 2, tensor("FP32", 1000))
    return EngineLayer("gemm", "gemm", "", ("fc",), inputs, (tensor("FP16", 1000),))


@pytest.mark.parametrize(("given", "weights", "problems"), [("FP16", "FP16", 1), ("FP32", "FP32", 0)])
def test_factors_and_biases_do_not_hide_a_product_in_half(given: str, weights: str, problems: int) -> None:
    assert len(list(narrowed_layers((myelin_gemm(given, weights),), NETWORK, ["fc"]))) == problems


def test_factors_are_no_precision() -> None:
    inputs = (tensor("FP16", 8), tensor("FP16", 80), tensor("FP32", 1), tensor("FP32", 1))
    layer = EngineLayer("gemm", "gemm", "", (), inputs, (tensor("FP16", 10),))
    assert layer.precision == "FP16"
    assert replace(layer, inputs=(tensor("FP32", 1),), outputs=()).precision == "FP32"
