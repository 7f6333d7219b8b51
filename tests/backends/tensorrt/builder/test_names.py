"""Node names and the words that parsers put beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.backends.tensorrt.audit.record import ONNX, PLAN, read_layers
from harness.backends.tensorrt.backend import TensorRTBackend
from harness.backends.tensorrt.builder.build import BuildTask, build
from harness.backends.tensorrt.builder.names import barred, inner_tensors, without_words
from harness.backends.tensorrt.network import node_of
from harness.errors import BuildError
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec, Profile, ShapeRange
from tests.helpers.lowering import model
from tests.helpers.tensorrt import classifier, request, rtx

FLAT = Profile(shapes={"x": ShapeRange(min=(1, 4), opt=(1, 4), max=(2, 4))})


def test_doc_strings_are_left_out_and_the_model_is_kept() -> None:
    source = classifier()
    assert without_words(source) is source
    for node in source.graph:
        node.doc_string = "File <a.py>, line 3\n | [ONNX Layer: fc]"
    stripped = without_words(source)
    assert {node.doc_string for node in stripped.graph} <= {None, ""}
    assert [node.name for node in stripped.graph] == [node.name for node in source.graph]
    assert all(node.doc_string for node in source.graph)


def test_names_that_hold_a_bar_are_found_again() -> None:
    source = classifier()
    source.graph[0].name = "conv | one"
    assert barred(source) == ("conv | one",)
    assert node_of("[ONNX Layer: conv | one | words]", barred(source)) == "conv | one"


def test_a_profile_follows_the_parser_that_renames_an_input(tmp_path: Path) -> None:
    source = model("g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }")
    source.graph.outputs.append(source.graph.inputs[0])
    backend = TensorRTBackend(rtx().name, isolate=False)
    audit = backend.build(request(Precision.FP32, profiles=(FLAT,), source=source), tmp_path)
    assert (audit.problems, (tmp_path / PLAN).is_file()) == ((), True)


BRANCHED = """g (float[N, 4] x, bool c) => (float[N, 4] y) {
    a = Relu (x)
    [iff] y = If (c) <then_branch = t () => (float[N, 4] ty) { inside = Exp (a) [ta] ty = Neg (inside) },
                else_branch = e () => (float[N, 4] ey) { ey = Neg (a) }>
}"""


def test_tensors_inside_a_branch_cannot_be_outputs_and_are_not_offered(tmp_path: Path) -> None:
    backend = TensorRTBackend(rtx().name, isolate=False)
    both = Profile(shapes={**FLAT.shapes, "c": ShapeRange(min=(), opt=(), max=())})
    backend.build(request(Precision.FP32, profiles=(both,), source=model(BRANCHED)), tmp_path)
    shown = backend.showable(tmp_path)
    assert "a" in shown
    assert not {"inside", "ty", "ey"} & shown
    assert {"iff", "ta"} & {layer.node for layer in read_layers(tmp_path)[0]}
    task = BuildTask(Precision.FP32, (both,), BuildSpec(), outputs=("inside",))
    with pytest.raises(BuildError):
        build(rtx(), task, tmp_path / ONNX, tmp_path / "again.plan")
    assert "inside" in inner_tensors(model(BRANCHED))
