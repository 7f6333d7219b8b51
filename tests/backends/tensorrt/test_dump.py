"""Layers of engines out of the list that builders give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.backends.tensorrt.dump import layers_from_dump

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
    shape, gemm = layers_from_dump(DUMP).layers
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
    (layer,) = layers_from_dump(text).layers
    assert [(t.name, t.dtype, t.count) for t in layer.inputs] == [("m", "FP32", 0), ("k", "FP16", 8)]
    assert (layer.outputs[0].dtype, layer.nodes, layer.constants) == ("FP16", ("fc",), ())


def test_a_line_of_another_form_is_kept_as_it_is() -> None:
    listed = layers_from_dump("Layers:\nName: odd, LayerType: new, Something: else\n")
    assert (listed.layers, listed.unread) == ((), ("Name: odd, LayerType: new, Something: else",))


def test_no_list_is_no_layers() -> None:
    assert layers_from_dump("").layers == ()


UP_TO_10 = (
    "Layers:\n"
    "Name: Reformatting CopyNode for Input Tensor 0 to (Unnamed Layer* 3) [Shuffle], LayerType: Reformat, "
    "Inputs: [ { Name: input, Location: Device, Dimensions: [1,3,8,8], Format/Datatype: Half }], "
    "Outputs: [ { Name: (Unnamed Layer* 3) [Shuffle]_output, Location: Device, Dimensions: [1,3,8,8], "
    "Format/Datatype: Thirty-two wide channel vectorized row major Int8 format }], ParameterType: Reformat, "
    "Origin: REFORMAT, TacticValue: 0x00000000000003e8, StreamId: 0, Metadata: \n"
    "Name: /a/Conv + /b/Relu, LayerType: CaskConvolution, "
    "Inputs: [ { Name: (Unnamed Layer* 3) [Shuffle]_output, Location: Device, Dimensions: [1,3,8,8], "
    "Format/Datatype: Int8 }], Outputs: [ { Name: r, Location: Device, Dimensions: [1,4,8,8], "
    "Format/Datatype: Half }], ParameterType: Convolution, Kernel: [3,3], PaddingMode: kEXPLICIT_ROUND_DOWN, "
    'Weights: {"Type": "Int8", "Count": 108}, Bias: {"Type": "Float", "Count": 4}, SomethingNew: {"a": [1]}, '
    "TacticName: sm80_xmma_fprop, TacticValue: 0x280b, StreamId: 0, "
    "Metadata: [ONNX Layer: /a/Conv]\x1e[ONNX Layer: /b/Relu]\n"
    "Name: {ForeignNode[a...b]}, LayerType: Myelin, Inputs: [], Outputs: [ { Name: y, Location: Device, "
    "Dimensions: [2], Format/Datatype: Row major linear FP32 }], TacticValue: 0x0\n"
)


def test_the_list_of_tensorrt_10_is_read_whole() -> None:
    listed = layers_from_dump(UP_TO_10)
    reformat, conv, myelin = listed.layers
    assert listed.unread == ()
    assert (reformat.tactic, reformat.outputs[0].name) == (
        "0x00000000000003e8",
        "(Unnamed Layer* 3) [Shuffle]_output",
    )
    assert (conv.tactic, conv.nodes, conv.precision) == ("sm80_xmma_fprop", ("/a/Conv", "/b/Relu"), "INT8")
    assert [(part.name, part.dtype, part.count) for part in conv.constants] == [
        ("Weights", "INT8", 108), ("Bias", "FP32", 4),
    ]  # fmt: skip
    assert (myelin.name, myelin.precision) == ("{ForeignNode[a...b]}", "FP32")


def test_separators_that_a_log_lost_do_not_join_nodes() -> None:
    lost = UP_TO_10.replace("\x1e", "")
    assert layers_from_dump(lost).layers == layers_from_dump(UP_TO_10).layers


OLD_LIST = (
    "Engine Layer Information:\n"
    "Layer(Reformat): to (Unnamed Layer* 0) [Conv], Tactic: 0x3ea, x[Float(-1,3,8)] -> q[Int8(-1,3,8)]\n"
    "Layer(CaskConvolution): conv + relu, Tactic: 0x9a, q[Int8(-1,3,8)] -> r[Half(-1,4,8)]\n"
    "Layer(CaskConvolution): conv + relu [profile 1], Tactic: 0x9a, q [profile 1][Int8(-1,3,8)] -> "
    "r [profile 1][Half(-1,4,8)]\n"
    "Layer(Myelin): {ForeignNode[a...b]}, Tactic: 0x0,  -> y[Float(2,12)], z[Int32()]\n"
)


def test_the_list_of_tensorrt_8_is_read() -> None:
    listed = layers_from_dump(OLD_LIST)
    assert listed.unread == ()
    assert [layer.precision for layer in listed.layers] == ["FP32+INT8", "INT8", "FP32"]
    assert [(t.name, t.count) for t in listed.layers[2].outputs] == [("y", 24), ("z", 1)]


@given(st.lists(st.sampled_from([*UP_TO_10.split("\n"), *OLD_LIST.split("\n")]).flatmap(
    lambda line: st.integers(0, len(line)).map(lambda end: line[:end] if end % 2 else line))))  # fmt: skip
def test_no_line_of_a_list_is_lost(lines: list[str]) -> None:
    """However lines are cut, each is a layer of the first profile or kept as it is."""
    listed = layers_from_dump("Layers:\n" + "\n".join(lines))
    told = [line for line in lines if line.strip() and not line.startswith(("Layers:", "Engine Layer Inf"))]
    others = sum(line.startswith("Layer(") and " [profile 1], Tactic" in line and line not in listed.unread
                 for line in told)  # fmt: skip
    heads = sum(line.startswith(("Layers:", "Engine Layer Inf")) for line in listed.unread)
    assert len(listed.layers) + len(listed.unread) - heads + others == len(told)
