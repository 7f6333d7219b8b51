"""Specs for models that have none: they must run as they are, whatever the model."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.cli import main
from harness.data.inputs import Feeds, cases_of
from harness.drafting import draft as spec_draft
from harness.drafting.guesses import draft_inputs
from harness.drafting.trial import MULTIPLES, explore
from harness.errors import ModelError, RunError
from harness.graph import file as onnx_file
from harness.lowering.passes.normalise import normalise
from harness.spec.check import check_against_model
from harness.spec.file import read_spec
from tests.helpers.lowering import proto
from tests.helpers.models import linear_model, one_graph

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Trials run here: a process of their own costs a second each; one test has it."""
    monkeypatch.setattr(spec_draft, "isolated", lambda function, *args, **_: function(*args))


def drafted(folder, model):
    """The spec that is drafted for `model`, checked against it, its cases run."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    spec = spec_draft.spec_from_onnx(path)
    check_against_model(spec, normalise(onnx_file.read(path)))
    runs(spec, path)
    return spec


def runs(spec, path):
    """Run every case of `spec` on ONNX Runtime."""
    from harness.backends.onnxruntime.session import OrtEngine, SessionSettings

    with OrtEngine.open(path, SessionSettings()) as engine:
        for profile in spec.profiles:
            for case in cases_of(profile):
                outputs = engine.run(Feeds(spec).feed(case.shapes))
                assert all(np.isfinite(output).all() for output in outputs.values())


def shapes_of(spec, name):
    """Smallest, usual, largest shape and multiples of an input."""
    found = spec.profiles[0].shapes[name]
    return found.min, found.opt, found.max, found.multiples


def test_a_dynamic_batch(tmp_path):
    spec = drafted(tmp_path, linear_model())
    assert spec.name == "model"
    assert shapes_of(spec, "input") == ((1, 4), (4, 4), (8, 4), (1, 1))


def test_a_model_that_runs_in_its_normalised_form_alone(tmp_path):
    model = linear_model()
    for node in model.graph.node:
        node.name = "same"
    onnx.save(model, tmp_path / "model.onnx")
    spec = spec_draft.spec_from_onnx(tmp_path / "model.onnx")
    assert shapes_of(spec, "input")[2] == (8, 4)


HALF = "g (float16[N,4] x) => (float16[N,4] y) { y = Relu(x) }"
OWN = """g (float[N,4] x) => (float[N,4] y)
  <float s = {0.5}, int8 z = {0}> { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"""


@pytest.mark.parametrize(
    ("model", "precisions"),
    [
        (linear_model(), ("fp32", "fp16", "int8")),
        (proto("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"), ("fp32", "fp16")),
        (proto(HALF), ("fp16",)),
        (proto(OWN), ("int8", "int8+fp16")),
    ],
)
def test_precisions_that_the_model_can_have(tmp_path, model, precisions):
    assert drafted(tmp_path, model).precisions == precisions
    assert main(["init", str(tmp_path / "model.onnx")]) == 0
    assert read_spec(tmp_path / "spec.toml").precisions == precisions


def test_a_static_shape(tmp_path):
    assert shapes_of(drafted(tmp_path, linear_model(batch=2)), "input")[:3] == ((2, 4),) * 3


def test_sides_that_must_be_multiples(tmp_path):
    """Down by 32 with strides and up again, added to the input: sides must be multiples of 32."""
    weight = numpy_helper.from_array(np.ones((1, 1, 32, 32), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["down"], "down", strides=[32, 32]),
        helper.make_node("ConvTranspose", ["down", "w"], ["up"], "up", strides=[32, 32]),
        helper.make_node("Add", ["x", "up"], ["y"], "add"),
    ]
    shape = ["n", 1, "h", "w"]
    spec = drafted(tmp_path, one_graph(nodes, [("x", FLOAT, shape)], [("y", shape)], [weight]))
    low, usual, high, multiples = shapes_of(spec, "x")
    assert multiples == (1, 1, 32, 32)
    assert low[0] == 1 < usual[0] < high[0]
    assert low[2] < high[2]
    assert 32 in MULTIPLES


def test_token_ids_stay_in_their_table(tmp_path):
    """A table of 11 rows, positions up to 40, a mask by name."""
    weights = [
        numpy_helper.from_array(np.ones((11, 4), np.float32), "words"),
        numpy_helper.from_array(np.ones((40, 4), np.float32), "positions"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
    ]
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["embedded"], "embed"),
        helper.make_node("Shape", ["ids"], ["length"], "length", start=1, end=2),
        helper.make_node("Range", ["zero_0d", "length_0d", "one_0d"], ["places"], "range"),
        helper.make_node("Gather", ["positions", "places"], ["where"], "where"),
        helper.make_node("Add", ["embedded", "where"], ["sum"], "sum"),
        helper.make_node("Cast", ["attention_mask"], ["mask"], "cast", to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"], "unsqueeze"),
        helper.make_node("Mul", ["sum", "mask3"], ["y"], "mul"),
    ]
    nodes.insert(2, helper.make_node("Squeeze", ["length"], ["length_0d"], "squeeze"))
    weights += [
        numpy_helper.from_array(np.array(0, np.int64), "zero_0d"),
        numpy_helper.from_array(np.array(1, np.int64), "one_0d"),
        numpy_helper.from_array(np.array([2], np.int64), "last"),
    ]
    inputs = [("ids", INT64, ["batch", "seq"]), ("attention_mask", INT64, ["batch", "seq"])]
    spec = drafted(
        tmp_path, one_graph(nodes, inputs, [("y", ["batch", "seq", 4])], weights[:2] + weights[3:])
    )
    assert spec.inputs["ids"].data.bounds == (0, 11)
    assert spec.inputs["attention_mask"].data.bounds == (0, 2)
    assert shapes_of(spec, "ids") == shapes_of(spec, "attention_mask")
    assert shapes_of(spec, "ids")[2][1] <= 40


def test_values_that_make_outputs_finite(tmp_path):
    """A square root of the input: only positive values do."""
    model = one_graph(
        [helper.make_node("Sqrt", ["x"], ["y"], "sqrt")], [("x", FLOAT, ["n", 8])], [("y", ["n", 8])]
    )
    assert drafted(tmp_path, model).inputs["x"].data.generator == "uniform"


def test_masks_that_leave_nothing_at_the_smallest_shape(tmp_path):
    """A row that is masked out is 0 / 0: with one token to a row, masks are ones."""
    text = """g (float[N,L] x, bool[N,L] mask) => (float[N,L] y) <float low = {-inf}> {
      m = Where(mask, x, low) y = Softmax(m) }"""
    assert drafted(tmp_path, proto(text)).inputs["mask"].data.generator == "mask"


def test_odd_inputs(tmp_path):
    """A bool, a scalar, an initializer that is also an input, names that TOML must quote."""
    weight = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    nodes = [
        helper.make_node("Where", ['a "b"\\c:0', "w", "scale"], ["picked"], "where"),
        helper.make_node("Mul", ["picked", "scale"], ["y"], "mul"),
    ]
    inputs = [('a "b"\\c:0', BOOL, [2, 3]), ("scale", FLOAT, []), ("w", FLOAT, [2, 3])]
    model = one_graph(nodes, inputs, [("y", [2, 3])], [weight])
    spec = drafted(tmp_path, model)
    assert set(spec.inputs) == {'a "b"\\c:0', "scale"}
    assert main(["init", str(tmp_path / "model.onnx")]) == 0
    written = read_spec(tmp_path / "spec.toml")
    assert written.inputs == spec.inputs
    assert written.profiles == spec.profiles


def test_a_model_that_does_not_run_still_gets_a_spec(tmp_path, monkeypatch):
    def crash(*_, **__):
        raise RunError("explore: died of SIGSEGV")

    monkeypatch.setattr(spec_draft, "isolated", crash)
    onnx.save(linear_model(), tmp_path / "model.onnx")
    text = spec_draft.draft_spec(tmp_path / "model.onnx")
    assert "# not tried: explore: died of SIGSEGV" in text


def test_a_model_that_no_shape_suits(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"], "reshape"),
        helper.make_node("Identity", ["r"], ["y"], "id"),
    ]
    shape = numpy_helper.from_array(np.array([7919], np.int64), "shape")
    onnx.save(one_graph(nodes, [("x", FLOAT, [3])], [("y", [7919])], [shape]), tmp_path / "m.onnx")
    inputs = draft_inputs(onnx_file.read(tmp_path / "m.onnx"))
    draft = explore(str(tmp_path / "m.onnx"), inputs, 5.0)
    assert "no shape was found that ONNX Runtime runs" in draft.doubts[0]
    assert draft.shapes("opt") == {"x": [3]}


@pytest.mark.parametrize(
    ("file", "name"), [("a b.onnx", "a_b"), ("…….onnx", "model"), ("-x+y.onnx", "x_y"), ("v1.2.onnx", "v1.2")]
)
def test_names_from_file_names(tmp_path, file, name):
    assert spec_draft.name_for(tmp_path / file) == name


def test_models_that_no_spec_can_describe(tmp_path):
    nodes = [
        helper.make_node("StringNormalizer", ["x"], ["s"], "normalise"),
        helper.make_node("Size", ["s"], ["size"], "size"),
        helper.make_node("Cast", ["size"], ["y"], "cast", to=FLOAT),
    ]
    text = one_graph(nodes, [("x", TensorProto.STRING, [1])], [("y", [])])
    onnx.save(text, tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="only numbers and bools"):
        spec_draft.spec_from_onnx(tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="no such file"):
        spec_draft.spec_from_onnx(tmp_path / "absent.onnx")


def test_the_command_overwrites_only_when_forced(tmp_path, capsys):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    target = tmp_path / "spec.toml"
    target.write_text("mine")
    assert main(["init", str(tmp_path / "model.onnx")]) == 4
    assert (
        capsys.readouterr().err == f"trt-harness: error: {target}: is there already; --force overwrites it\n"
    )
    assert target.read_text() == "mine"
    assert main(["init", str(tmp_path / "model.onnx"), "--force"]) == 0
    assert read_spec(target).name == "model"


def test_a_spec_elsewhere_finds_its_model(tmp_path):
    onnx.save(linear_model(), tmp_path / "model.onnx")
    (tmp_path / "specs").mkdir()
    assert main(["init", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "specs")]) == 0
    assert read_spec(tmp_path / "specs" / "spec.toml").model.onnx == "../model.onnx"


@pytest.mark.slow
def test_trials_run_in_a_process_of_their_own(tmp_path, monkeypatch):
    monkeypatch.undo()
    assert shapes_of(drafted(tmp_path, linear_model()), "input")[2] == (8, 4)


def test_a_spec_that_cannot_be_written_whole_is_not_there(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    onnx.save(linear_model(), tmp_path / "model.onnx")
    monkeypatch.setattr("pathlib.Path.replace", full)
    assert main(["init", str(tmp_path / "model.onnx")]) == 4
    assert capsys.readouterr().err.endswith("spec.toml: cannot be written: No space left on device\n")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
