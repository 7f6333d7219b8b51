"""A converted model is run beside its file: what moves numbers is refused, what is not known is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines import subject as module
from harness.engines.conversion import _judged, bounds
from harness.engines.subject import Subject
from harness.errors import ModelError
from harness.graph import file as onnx_file
from harness.lowering.passes.normalise import normalise
from harness.spec.file import read_spec
from harness.storage.cache import Cache

SPEC = """
name = "net"
model.onnx = "model.onnx"
precisions = ["fp32"]
[inputs.x]
dtype = "float32"
data = { generator = "normal" }
[[profiles]]
shapes.x = { min = [1, 8], opt = [4, 8], max = [8, 8] }
"""


def subject_of(folder: Path, text: str) -> Subject:
    header = '<ir_version: 8, opset_import: ["" : 11]>'
    onnx.save(onnx.parser.parse_model(f"{header}\n{text}"), folder / "model.onnx")
    (folder / "spec.toml").write_text(SPEC)
    return Subject(
        read_spec(folder / "spec.toml"), OnnxRuntimeBackend(isolate=False), Cache(folder / "cache")
    )


def test_a_conversion_that_agrees_is_checked_at_every_bound_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "net (float[N,8] x) => (float[N,8] y) { y = Softmax(x) }"
    first = subject_of(tmp_path, text).conversion
    assert (first.points, first.moved, first.unchecked) == (3, "", "")
    assert first.seconds > 0
    monkeypatch.setattr("harness.engines.conversion.isolated", None)
    assert subject_of(tmp_path, text).conversion == first


@pytest.mark.parametrize("change", ["negate", "one size only"])
def test_a_conversion_that_moves_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    subject = subject_of(tmp_path, "net (float[N,8] x) => (float[N,8] y) { y = Softmax(x) }")
    monkeypatch.setattr(module, "normalise", lambda model: wrong(normalise(model), change))
    rows = 1 if change == "negate" else 8
    for _ in range(2):
        with pytest.raises(
            ModelError, match=rf"model\.onnx: .* than as it is: output 'y' at 'x' \[{rows}, 8"
        ):
            subject.reference()


def wrong(model: ir.Model, change: str) -> ir.Model:
    """`model` with outputs that are wrong, or that are wrong from row 4 on."""
    (node,) = (node for node in model.graph if node.op_type == "Softmax")
    rows = np.ones((8, 1), np.float32)
    rows[4:] = 1.5
    factor = np.array([-1], np.float32) if change == "negate" else rows
    weight = ir.Value(name="factor", const_value=ir.tensor(factor))
    model.graph.register_initializer(weight)
    inputs = [node.inputs[0], weight]
    if change != "negate":
        shape = ir.node("Shape", [node.inputs[0]], {"start": 0, "end": 1})
        zero = ir.Value(name="zero", const_value=ir.tensor(np.zeros(1, np.int64)))
        model.graph.register_initializer(zero)
        part = ir.node("Slice", [weight, zero, shape.outputs[0], zero])
        model.graph.insert_before(node, (shape, part))
        inputs[1] = part.outputs[0]
    scaled = ir.node("Mul", inputs, name="scaled")
    model.graph.insert_before(node, scaled)
    node.replace_input_with(0, scaled.outputs[0])
    return model


def test_a_file_whose_numbers_change_by_themselves_is_not_known() -> None:
    feed = {"x": np.zeros((1, 8), np.float32)}
    assert _judged({"y": 50.0}, {"y": 40.0}, feed) == (
        "",
        "output 'y' of the file itself is another each time",
    )
    assert _judged({"y": 50.0}, {"y": 0.5}, feed) == ("output 'y' at 'x' [1, 8]", "")
    assert _judged({"y": 3.0}, {"y": 0.5}, feed) == ("", ""), "no further than FP32's own noise explains"


def test_a_file_that_the_runtime_refuses_is_not_known(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, "net (float[N,8] x) => (float[N,8] y) { y = Softmax(x) }")
    proto = onnx.load(tmp_path / "model.onnx")
    proto.opset_import.append(onnx.helper.make_opsetid("unknown.domain", 1))
    proto.graph.node.append(onnx.helper.make_node("Nothing", ["x"], ["z"], "odd", domain="unknown.domain"))
    onnx_file.write(ir.serde.deserialize_model(proto), tmp_path / "model.onnx")
    assert "Nothing" in subject.conversion.unchecked
    assert any("not known whether normalising" in remark for remark in subject.remarks)


def test_bounds_are_those_of_every_profile_once(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, "net (float[N,8] x) => (float[N,8] y) { y = Softmax(x) }")
    (profile,) = subject.spec.profiles
    assert [shapes["x"] for shapes in bounds([profile, profile])] == [(1, 8), (4, 8), (8, 8)]
