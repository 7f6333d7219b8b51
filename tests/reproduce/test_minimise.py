"""Pieces of a model, and the reduction of a failing one to the piece that fails by itself."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from harness import cli
from harness.backends.choose import create
from harness.backends.onnxruntime.backend import run_model
from harness.engines.subject import Subject
from harness.errors import BuildError
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision
from harness.reproduce.failure import find_failure
from harness.reproduce.minimise import minimised
from harness.reproduce.piece import ends_of, needed_by, piece_of
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from tests.reproduce.test_bundle import reproduce

GRAPH = """
<ir_version: 10, opset_import: ["" : 19]>
g (float[N, 4] x, bool p) => (float[N, 4] y, float[N, 4] z) {
    [start] a = Mul(x, two)
    [branch] b = If(p) <then_branch = t () => (float[N, 4] u) { [inner] u = Add(a, x) },
                        else_branch = e () => (float[N, 4] v) { [other] v = Sub(a, x) }>
    [grow] c = Mul(b, big)
    [shrink] d = Div(c, big)
    [last] y = Add(d, two)
    [side] z = Relu(a)
}
"""
SPEC = """
name = "net"
precisions = ["fp16"]
model.onnx = "model.onnx"
profiles = [{ shapes = { x = { min = [1, 4], opt = [2, 4], max = [3, 4] }, p = [] } }]
[inputs.x]
dtype = "float32"
data = { generator = "uniform", low = 1, high = 2 }
[inputs.p]
dtype = "bool"
batch_axis = 0
data = { npz = "p.npz", member = "p" }
"""


def proto(big: float = 3e4) -> onnx.ModelProto:
    made = onnx.parser.parse_model(GRAPH)
    for name, value in (("two", 2.0), ("big", big)):
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    return made


@pytest.fixture
def model() -> ir.Model:
    return normalise(ir.from_proto(proto()))


def nodes(model: ir.Model, *names: str) -> list[ir.Node]:
    return [node for node in model.graph if node.name in names]


def test_a_piece_ends_where_others_make_and_read(model: ir.Model) -> None:
    assert ends_of(model, nodes(model, "grow", "shrink")) == (("b",), ("d",))
    assert ends_of(model, nodes(model, "start", "branch")) == (("x", "p"), ("a", "b"))
    assert ends_of(model, nodes(model, "branch")) == (("x", "p", "a"), ("b",))
    assert ends_of(model, list(model.graph)) == (("x", "p"), ("y", "z"))


def test_what_an_output_needs(model: ir.Model) -> None:
    order = list(model.graph)
    assert {order[i].name for i in needed_by("z", order)} == {"start", "side"}
    assert {order[i].name for i in needed_by("c", order)} == {"start", "branch", "grow"}


@pytest.mark.parametrize("names", [("branch",), ("grow", "shrink"), ("start", "branch", "grow"), ("side",)])
def test_a_piece_computes_what_the_whole_does(model: ir.Model, names: tuple[str, ...]) -> None:
    feeds = {"x": np.float32([[1, 2, 3, 4]]), "p": np.array(True)}
    inputs, outputs = ends_of(model, nodes(model, *names))
    tensors = {**feeds, **run_model(model, feeds, ("a", "b", "c", "d", "z"))}
    piece = piece_of(model, {name: tensors[name] for name in inputs}, outputs)
    assert {node.name for node in piece.graph} == set(names)
    found = run_model(piece, {name: tensors[name] for name in inputs})
    for name in outputs:
        np.testing.assert_array_equal(found[name], tensors[name])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    onnx.save(proto(), tmp_path / "model.onnx")
    np.savez(tmp_path / "p.npz", p=np.array([True]))
    (tmp_path / "spec.toml").write_text(SPEC)
    return tmp_path / "spec.toml"


def test_the_node_that_overflows_is_what_remains(spec: Path, tmp_path: Path) -> None:
    subject = Subject(read_spec(spec), create("onnxruntime"), Cache(tmp_path / "cache"))
    failure = find_failure(subject, Precision.FP16)
    said: list[str] = []
    with minimised(failure, subject, said.append) as small:
        assert [node.name for node in small.normalised.graph] == ["grow"]
        assert not small.found.quality
        assert (small.nodes, small.of) == (1, failure.of)
        assert small.built.folder.is_dir()
    assert "still fail" in said[-1]
    assert "grow" in small.text
    assert not small.built.folder.exists()


ROUNDED = """
<ir_version: 10, opset_import: ["" : 19]>
g (float[N, 4] x) => (float[N, 4] y) {
    [scale] a = Mul(x, thousand)
    [code] q = Cast <to = 6> (a)
    [decode] b = Cast <to = 1> (q)
    [grow] c = Mul(b, big)
    [shrink] y = Div(c, big)
}
"""


def test_integers_that_round_differently_are_not_taken_for_an_overflow(tmp_path: Path) -> None:
    made = onnx.parser.parse_model(ROUNDED)
    for name, value in (("thousand", 1234.5), ("big", 3e4)):
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    onnx.save(made, tmp_path / "model.onnx")
    (tmp_path / "spec.toml").write_text(SPEC.partition("[inputs.p]")[0].replace(", p = []", ""))
    subject = Subject(read_spec(tmp_path / "spec.toml"), create("onnxruntime"), Cache(tmp_path / "cache"))
    failure = find_failure(subject, Precision.FP16)
    with minimised(failure, subject) as small:
        assert [node.name for node in small.normalised.graph] == ["grow"]
        assert {fault.kind for one in small.found.failed for fault in one.faults} >= {"+inf"}


def test_a_minimised_bundle_fails_by_itself(spec: Path, tmp_path: Path) -> None:
    options = [f"--trt-spec={spec}", f"--trt-cache-dir={tmp_path / 'cache'}", "--trt-backend=onnxruntime"]
    assert cli.main(["bundle", "net-fp16", "-o", str(tmp_path / "out"), "--minimise", *options]) == 0
    assert json.loads((tmp_path / "out" / "case.json").read_text())["nodes"] == 1
    done = reproduce(tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert "misplaced: FAIL" in done.stdout


def test_what_only_the_whole_shows_stays_whole(spec: Path, tmp_path: Path, monkeypatch) -> None:
    subject = Subject(read_spec(spec), create("onnxruntime"), Cache(tmp_path / "cache"))
    failure = find_failure(subject, Precision.FP16)

    def refuse(*_: object) -> None:
        raise BuildError("no piece can be built")

    monkeypatch.setattr("harness.reproduce.minimise.build", refuse)
    with minimised(failure, subject) as same:
        assert same is failure


def test_a_stopped_reduction_keeps_what_it_found(spec: Path, tmp_path: Path) -> None:
    subject = Subject(read_spec(spec), create("onnxruntime"), Cache(tmp_path / "cache"))
    failure = find_failure(subject, Precision.FP16)
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    with minimised(failure, subject, tell) as small:
        assert small.nodes < failure.nodes
    assert said[-1] == "stopped: the smallest piece found so far is taken"
