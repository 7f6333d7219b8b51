"""Weights stay where they are until they are written, one at a time; files over protobuf's limit pass."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from harness.graph import file as onnx_file
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan

FP16 = PrecisionPlan(Precision.FP16)


def chain(folder: Path, layers: int, width: int) -> Path:
    """A chain of MatMuls whose weights lie in one sparse external file of zeros."""
    size, name = width * width * 4, "x"
    nodes, weights = [], []
    for index in range(layers):
        tensor = TensorProto(name=f"w{index}", data_type=1, dims=[width, width])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "w.bin", "offset": str(index * size), "length": str(size)}.items():
            tensor.external_data.add(key=key, value=value)
        nodes.append(helper.make_node("MatMul", [name, tensor.name], [f"h{index}"]))
        weights.append(tensor)
        name = f"h{index}"
    ends = [helper.make_tensor_value_info(end, 1, [1, width]) for end in ("x", name)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "m.onnx").write_bytes(built.SerializeToString())
    with (folder / "w.bin").open("wb") as file:
        file.truncate(layers * size)
    return folder / "m.onnx"


@pytest.mark.parametrize("external_bytes", [0, 1 << 30], ids=["beside", "inside"])
def test_weights_are_converted_one_at_a_time(tmp_path: Path, external_bytes: int) -> None:
    path = chain(tmp_path, layers=12, width=512)
    tracemalloc.start()
    lowered = lower(normalise(onnx_file.read(path)), FP16)
    onnx_file.write(lowered.model, tmp_path / "low.onnx", external_bytes=external_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_weight = 512 * 512 * 4
    assert peak < 4 * one_weight


def test_lowering_reads_no_weight_twice_over(tmp_path: Path) -> None:
    normalised = normalise(onnx_file.read(chain(tmp_path, layers=3, width=64)))
    weight = normalised.graph.initializers["w0"].const_value
    assert isinstance(weight, ir.ExternalTensor)
    lower(normalised, FP16)
    weight.invalidate()
    lower(normalised, FP16)
    with pytest.raises(ValueError, match="invalidated"):
        weight.numpy()


@pytest.mark.slow
def test_models_over_two_gigabytes(tmp_path: Path) -> None:
    path = chain(tmp_path, layers=5, width=11_000)
    lowered = lower(normalise(onnx_file.read(path)), FP16)
    assert len(lowered.summary.lowered) == 5
    onnx_file.write(emulate(lowered), tmp_path / "emulation.onnx")
    again = onnx_file.read(tmp_path / "emulation.onnx")
    assert onnx_file.weight_bytes(again) > 2**31
    assert again.graph.initializers["w4"].const_value.dtype == ir.DataType.FLOAT
    onnx.checker.check_model(str(tmp_path / "emulation.onnx"))


def test_the_chain_computes(tmp_path: Path) -> None:
    path = chain(tmp_path, layers=2, width=4)
    with (tmp_path / "w.bin").open("wb") as file:
        file.write(np.concatenate([np.eye(4, dtype=np.float32)] * 2).tobytes())
    found = onnx_file.read(path).graph.initializers["w1"].const_value.numpy()
    np.testing.assert_array_equal(found, np.eye(4))
