"""Reading ONNX files safely, writing them atomically, cloning and hashing models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from harness.errors import ModelError
from harness.graph import file as onnx_file
from tests.helpers.lowering import node_names, proto, raw, run, tensor_names

TEXT = "g (float[2,4] x) => (float[2,4] y) { [a] h = MatMul(x, w) [b] y = Relu(h) }"
W = np.arange(16, dtype=np.float32).reshape(4, 4)
X = {"x": np.ones((2, 4), np.float32)}


def save(folder: Path, text: str = TEXT, **changes) -> Path:
    built = proto(text, changes.pop("opset", 19))
    built.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    path = folder / "m.onnx"
    path.write_bytes(built.SerializeToString())
    return path


def save_external(folder: Path, location: str = "w.bin", **entries: str) -> Path:
    built = proto(TEXT)
    tensor = built.graph.initializer.add(
        name="w", data_type=1, dims=[4, 4], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "m.onnx"
    path.write_bytes(built.SerializeToString())
    return path


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(ModelError, match=pattern) as caught:
        onnx_file.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_round_trip(tmp_path: Path) -> None:
    model = onnx_file.read(save(tmp_path))
    onnx_file.write(model, tmp_path / "again.onnx")
    again = onnx_file.read(tmp_path / "again.onnx")
    np.testing.assert_array_equal(run(again, X)["y"], run(model, X)["y"])
    assert onnx_file.digest(again) == onnx_file.digest(model)
    assert sorted(os.listdir(tmp_path)) == ["again.onnx", "m.onnx"]


def test_what_is_streamed_is_what_protobuf_would_write(tmp_path: Path) -> None:
    weights = {
        "w": np.arange(1024, dtype=np.float32).reshape(32, 32),
        "h": np.arange(600, dtype=np.float16),
        "i": np.arange(300, dtype=np.int64),
        "e": np.zeros((0, 400), np.float32),
        "small": np.ones(3, np.float32),
    }
    model = raw("g (float[2,32] x) => (float[2,32] y) { [a] y = MatMul(x, w) }", **weights)
    onnx_file.write(model, tmp_path / "m.onnx")
    built = onnx.load(tmp_path / "m.onnx")
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in built.graph.initializer}
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    onnx.checker.check_model(built)
    assert onnx_file.digest(onnx_file.read(tmp_path / "m.onnx")) == onnx_file.digest(model)


def test_large_weights_go_beside_the_model(tmp_path: Path) -> None:
    big = np.arange(1024, dtype=np.float32).reshape(32, 32)
    model = raw("g (float[2,32] x) => (float[2,32] y) { [a] y = MatMul(x, w) }", w=big)
    onnx_file.write(model, tmp_path / "m.onnx", external_bytes=1000)
    assert (tmp_path / "m.onnx.data").stat().st_size == big.nbytes
    again = onnx_file.read(tmp_path / "m.onnx")
    assert isinstance(again.graph.initializers["w"].const_value, ir.ExternalTensor)
    assert onnx_file.digest(again) == onnx_file.digest(model)
    onnx_file.write(again, tmp_path / "inline.onnx")
    (tmp_path / "m.onnx.data").unlink()
    inline = onnx_file.read(tmp_path / "inline.onnx")
    np.testing.assert_array_equal(inline.graph.initializers["w"].const_value.numpy(), big)


def test_a_model_may_be_written_over_its_own_external_data(tmp_path: Path) -> None:
    big = np.arange(1024, dtype=np.float32)
    model = raw("g (float[1024] x) => (float[1024] y) { y = Add(x, w) }", w=big)
    for _ in range(2):
        onnx_file.write(model, tmp_path / "m.onnx", external_bytes=1000)
        model = onnx_file.read(tmp_path / "m.onnx")
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), big)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = save(tmp_path)
    before = path.read_bytes()

    def fail() -> ir.TensorProtocol:
        raise OSError("disk is gone")

    model = onnx_file.read(path)
    model.graph.initializers["w"].const_value = ir.LazyTensor(fail, ir.DataType.FLOAT, ir.Shape([4, 4]))
    with pytest.raises(Exception, match=r".*"):
        onnx_file.write(model, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.onnx"]


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\x08\x09", b"\x00" * 100])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refused(path, "not an ONNX model, or truncated")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated(tmp_path: Path, share: float) -> None:
    path = save(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "truncated")


def test_missing_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "cannot be read: No such file")
    refused(tmp_path, "cannot be read: Is a directory")


@pytest.mark.parametrize("opset", [6, 27, 99])
def test_unsupported_opset(tmp_path: Path, opset: int) -> None:
    refused(save(tmp_path, opset=opset), f"opset {opset} is not supported: must be 7 to 26")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data_type": 1, "raw_data": b"1234"}, "tensor 'w' has 4 bytes, its shape needs 64"),
        ({"data_type": 1, "float_data": [1.0, 2.0]}, "tensor 'w' has 8 bytes, its shape needs 64"),
        ({"data_type": 1}, "tensor 'w' has 0 bytes, its shape needs 64"),
        ({"data_type": 10, "int32_data": [1]}, "tensor 'w' has 2 bytes, its shape needs 32"),
        ({"data_type": 0}, "tensor 'w': unknown type 0"),
        ({"data_type": 99}, "tensor 'w': unknown type 99"),
    ],
)
def test_weights_that_do_not_fit_their_shape(tmp_path: Path, content: dict, message: str) -> None:
    built = proto(TEXT)
    built.graph.initializer.add(name="w", dims=[4, 4], **content)
    path = tmp_path / "m.onnx"
    path.write_bytes(built.SerializeToString())
    refused(path, message)


@pytest.mark.parametrize(
    "location", ["../w.bin", "a/../../w.bin", "/etc/passwd", "", "link.bin", "folder/w.bin"]
)
def test_external_data_that_leaves_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "folder").symlink_to(tmp_path)
    refused(save_external(folder, location), "leaves the model's folder")


def test_external_data_that_is_missing_short_or_linked(tmp_path: Path) -> None:
    path = save_external(tmp_path)
    refused(path, "external data of 'w': file 'w.bin' is missing")
    (tmp_path / "w.bin").write_bytes(W.tobytes()[:-1])
    refused(path, "'w.bin' is truncated: needs 64 bytes")
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    refused(save_external(tmp_path, length="10"), "length 10 is less than the 64 bytes")
    refused(save_external(tmp_path, offset="8"), "is truncated: needs 72 bytes")
    refused(save_external(tmp_path, offset="-8"), "offset '-8' is not a number")
    os.link(tmp_path / "w.bin", tmp_path / "second")
    refused(save_external(tmp_path), "hard link")


def test_external_data_in_the_folder_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(b"12345678" + W.tobytes())
    model = onnx_file.read(save_external(tmp_path, "data/w.bin", offset="8", length="64"))
    np.testing.assert_array_equal(run(model, X)["y"], X["x"] @ W)


@pytest.mark.parametrize(
    "data_type", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT4, TensorProto.INT64]
)
def test_external_data_without_elements(tmp_path: Path, data_type: int) -> None:
    built = proto(TEXT)
    built.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    tensor = built.graph.initializer.add(name="none", data_type=data_type, dims=[0, 3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(b"")
    path = tmp_path / "m.onnx"
    path.write_bytes(built.SerializeToString())
    model = onnx_file.read(path)
    assert onnx_file.digest(model)
    onnx_file.write(model, tmp_path / "again.onnx")
    again = onnx_file.read(tmp_path / "again.onnx")
    assert list(again.graph.initializers["none"].const_value.shape) == [0, 3]
    np.testing.assert_array_equal(run(again, X)["y"], X["x"] @ W)


def test_external_data_of_constants(tmp_path: Path) -> None:
    built = proto(
        "g (float[4,4] x) => (float[4,4] y) { c = Constant <value = float[1] {1}> () y = Add(x, c) }"
    )
    tensor = built.graph.node[0].attribute[0].t
    tensor.CopyFrom(TensorProto(name="c", data_type=1, dims=[4, 4], data_location=TensorProto.EXTERNAL))
    tensor.external_data.add(key="location", value="w.bin")
    path = tmp_path / "m.onnx"
    path.write_bytes(built.SerializeToString())
    refused(path, "external data of 'c': file 'w.bin' is missing")
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    model = onnx_file.read(path)
    np.testing.assert_array_equal(run(model, {"x": W})["y"], W + W)


def test_sparse_initializers_are_refused(tmp_path: Path) -> None:
    built = proto(TEXT)
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [3])
    built.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    path = tmp_path / "m.onnx"
    path.write_bytes(built.SerializeToString())
    refused(path, "sparse initializer 'w'")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("y = Add(x, nowhere)", "uses 'nowhere' before it is made"),
        ("a = Add(x, b) b = Add(x, a) y = Add(a, b)", "cycle"),
        ("y0 = Add(x, x)", "output 'y' is never made"),
        ("y = Add(x, x) y = Neg(x)", "redeclared"),
    ],
)
def test_broken_graphs(tmp_path: Path, body: str, message: str) -> None:
    refused(save(tmp_path, f"g (float[4,4] x) => (float[4,4] y) {{ {body} }}"), message)


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    text = "g (float[2,4] x) => (float[2,4] y) { [b] y = Relu(h) [a] h = MatMul(x, w) }"
    assert node_names(onnx_file.read(save(tmp_path, text))) == ["a", "b"]


def nested(depth: int) -> onnx.GraphProto:
    """A graph of Ifs, each in the one before."""
    output = [helper.make_tensor_value_info("y", 1, [1])]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [], output)
    plain = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [], output)
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=plain)
        graph = helper.make_graph([node], "g", [], output)
    graph.input.append(helper.make_tensor_value_info("x", 1, [1]))
    graph.input.append(helper.make_tensor_value_info("c", 9, []))
    return graph


def test_graphs_nested_too_deep(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 19)]
    path.write_bytes(helper.make_model(nested(25), opset_imports=opset).SerializeToString())
    refused(path, "nested deeper than 24")
    path.write_bytes(helper.make_model(nested(24), opset_imports=opset).SerializeToString())
    assert len(node_names(onnx_file.read(path))) == 49


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    path = save(tmp_path, TEXT.replace("h", "QQ"))
    path.write_bytes(path.read_bytes().replace(b"QQ", b"\xff\xfe"))
    model = onnx_file.read(path)
    assert "\\xff\\xfe" in tensor_names(model)
    assert run(model, X)["y"].shape == (2, 4)


def test_nodes_without_a_name_are_named_after_their_output(tmp_path: Path) -> None:
    path = save(tmp_path, TEXT.replace("[a]", "").replace("[b]", ""))
    assert node_names(onnx_file.read(path)) == ["MatMul_h", "Relu_y"]


def test_clone_shares_weights_and_nothing_else(tmp_path: Path) -> None:
    model = onnx_file.read(save(tmp_path))
    copy = onnx_file.clone(model)
    assert copy.graph.initializers["w"].const_value is model.graph.initializers["w"].const_value
    copy.graph.node("a").name = "changed"
    assert node_names(model) == ["a", "b"]


def test_digest_sees_every_change(tmp_path: Path) -> None:
    model = onnx_file.read(save(tmp_path))
    found = {onnx_file.digest(model)}
    assert found == {onnx_file.digest(onnx_file.clone(model))}
    other = W.copy()
    other[3, 3] += 1
    for changed in (raw(TEXT, w=other), raw(TEXT.replace("Relu", "Abs"), w=W), raw(TEXT, w=W.T)):
        found.add(onnx_file.digest(changed))
    assert len(found) == 4


@pytest.mark.parametrize("suffix", [".uff", ".caffemodel", ".prototxt", ".pb", ".pt", ".plan", ".ENGINE"])
def test_other_formats_are_named_with_the_way_out(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(ModelError, match=r"model\.\w+: a .*(convert|export|name) it"):
        onnx_file.read(path)


STRINGS = "g (int64[1] x) => (string[1] y) { y = Gather(s, x) }"


def test_the_digest_sees_every_string_of_a_long_list(tmp_path: Path) -> None:
    def digest(word: str) -> str:
        words = [f"w{k}" for k in range(1500)] + [word] + [f"w{k}" for k in range(1500)]
        built = proto(STRINGS)
        built.graph.initializer.append(onnx.helper.make_tensor("s", TensorProto.STRING, [len(words)], words))
        (tmp_path / "m.onnx").write_bytes(built.SerializeToString())
        return onnx_file.digest(onnx_file.read(tmp_path / "m.onnx"))

    assert digest("one") != digest("other")


def test_external_data_at_an_offset_of_many_digits(tmp_path: Path) -> None:
    save_external(tmp_path)
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    refused(save_external(tmp_path, offset="9" * 5000), "offset .* is not a number")


def test_more_external_weights_than_files_may_be_open(tmp_path: Path) -> None:
    names = [f"w{k}" for k in range(40)]
    nodes = "".join(f" t{k + 1} = Add(t{k}, w{k})" for k in range(40))
    built = proto(f"g (float[512] t0) => (float[512] t40) {{{nodes} }}")
    for name in names:
        tensor = built.graph.initializer.add(
            name=name, data_type=1, dims=[512], data_location=TensorProto.EXTERNAL
        )
        tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(2048))
    (tmp_path / "m.onnx").write_bytes(built.SerializeToString())
    code = (
        "import os, resource, sys; from harness.graph import file as onnx_file\n"
        "limit = len(os.listdir('/proc/self/fd')) + 20\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "print(onnx_file.digest(onnx_file.read(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.onnx")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
