"""Every bad input gives one line that names file, key, value and rule."""

import json
import pickle

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.data.inputs import Feeds, labels
from harness.errors import UsageError
from harness.graph import file as onnx_file
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision
from harness.spec import assets, stored
from harness.spec.check import check_against_model
from harness.spec.file import find_specs, parse_spec, read_spec
from tests.helpers.models import SPEC, linear_model, one_graph, write_example

SHAPES = "{ min = [1, 4], opt = [2, 4], max = [8, 4] }"


def line_of(function, *args, **kwargs):
    """The one line that a user reads."""
    with pytest.raises(UsageError) as caught:
        function(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 2000
    return line


def validated(path):
    """All that happens to a spec before an engine is built."""
    spec = read_spec(path)
    check_against_model(spec, normalise(onnx_file.read(assets.model_path(spec))))
    Feeds(spec).feed({name: shape.opt for name, shape in spec.profiles[0].shapes.items()})
    labels(spec)


IN_THE_FILE = {
    "unknown key": ('name = "example"', 'nmae = "example"', "nmae", "'example'", "did you mean 'name'?"),
    "unknown key in a table": ("labels =", "label =", "task.label", "data.npz", "did you mean 'labels'?"),
    "wrong type": ('name = "example"', "name = 3", "name", "3", "must be text"),
    "missing key": ('name = "example"', "", "name", "(nothing)", "is required"),
    "hostile name": ('name = "example"', 'name = "a\\nb"', "name", r"'a\nb'", "must be letters"),
    "long name": ('name = "example"', f'name = "{"x" * 10_000}"', "name", "'xxx", "100"),
    "min > opt": ("opt = [2, 4]", "opt = [0, 4]", "shapes.input", "[0, 4]", "min <= opt <= max"),
    "ranks differ": ("max = [8, 4]", "max = [8, 4, 1]", "shapes.input", "[8, 4, 1]", "one rank"),
    "unknown input": ("shapes.input", "shapes.inputs", "profiles[0].shapes", "'inputs'", "no such input"),
    "no multiple": (
        "max = [8, 4] }",
        "max = [8, 4], multiple_of = [3, 1] }",
        "shapes.input",
        "[3, 1]",
        "no multiple of",
    ),
    "unknown precision": (
        '"fp32", "fp16"',
        '"fp32", "fp17"',
        "precisions[1]",
        "'fp17'",
        "did you mean 'fp16'?",
    ),
    "unknown precision's table": (
        "precision.fp16",
        "precision.fp61",
        "precision.fp61",
        "fp61",
        "must be one of",
    ),
    "precision twice": ('"fp32", "fp16"', '"fp32", "fp32"', "precisions", "'fp32'", "is there twice"),
    "unknown dtype": ('"float32"', '"float31"', "inputs.input.dtype", "'float31'", "did you mean 'float32'?"),
    "two kinds of data": ('member = "rows"', 'npy = "x.npy"', "inputs.input.data", "x.npy", "exactly one of"),
    "generator's bounds": (
        '{ npz = "data.npz", member = "rows" }',
        '{ generator = "uniform", low = 2, high = 1 }',
        "inputs.input.data",
        "'low': 2",
        "low < high",
    ),
    "tolerance": (
        "[task]",
        "tolerance = { expected = 1, limit = 1e-3 }\n[task]",
        "precision.fp16.tolerance",
        "1",
        "expected <= limit",
    ),
    "tolerance above the table": (
        "[task]",
        "tolerance.expected = 1\n[task]",
        "precision.fp16.tolerance.expected",
        "1",
        "must be <= the limit",
    ),
    "infinite tolerance": ("[task]", "tolerance.limit = inf\n[task]", "tolerance.limit", "inf", "finite"),
    "generator's fractions": (
        '{ npz = "data.npz", member = "rows" }',
        '{ generator = "integers", low = 0.2, high = 0.8 }',
        "inputs.input.data",
        "0.2",
        "low and high of `integers` must be whole numbers",
    ),
    "batch axis": ('"float32"', '"float32"\nbatch_axis = 2', "inputs.input.batch_axis", "2", "must be < 2"),
    "loader": (
        'npz = "data.npz", member = "rows"',
        'loader = "data:load"',
        "inputs.input.data.loader",
        "'data:load'",
        "must be file.py:function",
    ),
    "model": ('onnx = "model.onnx"', "", "model", "{}", "needs either `onnx` or `package`"),
    "unpinned package": (
        'onnx = "model.onnx"',
        'package = "magika>=1"\nmember = "m"\nsha256 = ""',
        "model.package",
        "'magika>=1'",
        "at one version",
    ),
    "option for a package": (
        'onnx = "model.onnx"',
        f'package = "--index-url=x==1"\nmember = "m"\nsha256 = "{"0" * 64}"',
        "model.package",
        "--index-url",
        "at one version",
    ),
    "missing model": ('"model.onnx"', '"absent.onnx"', "model.onnx", "'absent.onnx'", "no such file"),
    "folder for a model": ('"model.onnx"', '"."', "model.onnx", "'.'", "is a folder, not a file"),
    "folder for data": ('"data.npz", member', '"..", member', "data.npz", "'..'", "is a folder, not a file"),
    "endless name": ('"model.onnx"', f'"{"x" * 300}"', "model.onnx", "'xxx", "cannot be read"),
    "missing data": (
        'npz = "data.npz", member = "rows"',
        'npy = "a.npy"',
        "data.npy",
        "'a.npy'",
        "no such file",
    ),
}


@pytest.mark.parametrize("case", IN_THE_FILE)
def test_what_is_wrong_in_the_file(tmp_path, case):
    old, new, key, value, rule = IN_THE_FILE[case]
    assert old in SPEC
    path = write_example(tmp_path, SPEC.replace(old, new, 1))
    line = line_of(read_spec, path)
    assert line.startswith(f"{path}: ")
    for part in (key, value, rule):
        assert part in line


AGAINST_THE_MODEL = {
    "input name": (SPEC.replace("input", "imput").replace("[imputs", "[inputs"), "inputs.imput", "'input'"),
    "dtype": (SPEC.replace('"float32"', '"float16"'), "inputs.input.dtype = 'float16'", "is float32"),
    "rank": (SPEC.replace(SHAPES, "[1, 4, 1]"), "[1, 4, 1]", "has rank 3, the model's input has rank 2"),
    "static size": (SPEC.replace(SHAPES, "[1, 5]"), ".min[1] = 5", "the model fixes axis 1 at 4"),
    "node glob": (
        SPEC.replace("layer/*", "layers/*"),
        "precision.fp16.fp32_nodes = 'layers/*'",
        "matches no",
    ),
    "op type": (
        SPEC.replace('fp32_nodes = ["layer/*"]', 'fp32_op_types = ["Relo"]'),
        "precision.fp16.fp32_op_types = 'Relo'",
        "did you mean 'Relu'?",
    ),
    "output": (SPEC + '[outputs.outputs]\ncompare = "ignore"\n', "outputs.outputs", "did you mean 'output'?"),
    "nothing compared": (
        SPEC + '[outputs.output]\ncompare = "ignore"\n',
        "outputs = ['output']",
        "all are ignored",
    ),
    "task's output": (SPEC + 'output = "logits"\n', "task.output = 'logits'", "it has 'output'"),
    "npz member": (SPEC.replace('"rows"', '"row"'), "inputs.input.data.npz = 'data.npz'", "no member 'row'"),
    "data dtype": (
        SPEC.replace('"rows"', '"labels"'),
        "'data.npz:labels'",
        "has dtype int64, must be float32",
    ),
    "labels": (SPEC + "samples = 11\n", "task.labels", "must label 11 samples"),
    "escaping loader": (
        SPEC.replace('npz = "data.npz", member = "rows"', 'loader = "../{folder}_x.py:load"'),
        "inputs.input.data.loader",
        "must lie in the spec's folder",
    ),
}


@pytest.mark.parametrize("case", AGAINST_THE_MODEL)
def test_what_does_not_fit_the_model_or_its_data(tmp_path, case):
    text, key, rule = AGAINST_THE_MODEL[case]
    (tmp_path.parent / f"{tmp_path.name}_x.py").write_text("def load(): ...")
    path = write_example(tmp_path, text.replace("{folder}", tmp_path.name))
    line = line_of(validated, path)
    for part in (str(path), key, rule):
        assert part in line


def test_axes_of_one_name_have_one_size(tmp_path):
    nodes = [helper.make_node("Add", ["a", "b"], ["y"], "add")]
    inputs = [(name, onnx.TensorProto.FLOAT, ["n", "m"]) for name in "ab"]
    onnx.save(one_graph(nodes, inputs, [("y", ["n", "m"])]), tmp_path / "model.onnx")
    tables = "".join(f'inputs.{n} = {{ dtype = "float32", data.generator = "normal" }}\n' for n in "ab")
    text = 'name = "sum"\nmodel.onnx = "model.onnx"\n' + tables + "[[profiles]]\n"
    path = tmp_path / "spec.toml"
    path.write_text(text + "shapes.a = [2, 3]\nshapes.b = [2, 1]\n")
    line = line_of(lambda: check_against_model(read_spec(path), onnx_file.read(tmp_path / "model.onnx")))
    assert (
        "profiles[0].shapes.b.min[1] = 1: the model calls this axis 'm', as it does that of 'a'.min[1] = 3"
        in line
    )
    path.write_text(text + "shapes.a = [2, 3]\nshapes.b = [2, 3]\n")
    check_against_model(read_spec(path), onnx_file.read(tmp_path / "model.onnx"))


def test_a_loader_that_leaves_is_a_mistake(tmp_path):
    (tmp_path / "data.py").write_text("import sys\ndef load(): sys.exit(3)")
    text = SPEC.replace('npz = "data.npz", member = "rows"', 'loader = "data.py:load"')
    spec = read_spec(write_example(tmp_path, text))
    assert "raised SystemExit: 3" in line_of(Feeds(spec).feed, {"input": (1, 4)})


def test_the_example_itself_is_right(tmp_path):
    validated(write_example(tmp_path))


def test_several_errors_are_one_line(tmp_path):
    text = SPEC.replace('"float32"', "3").replace('"fp32"', '"fp23"')
    assert "(and 1 more: precisions[0])" in line_of(read_spec, write_example(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"[[[", "not TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\xef\xbb\xbfname = 'x'", "starts with a byte order mark"),
        (b"a = 1\n" * 2_000_000, "larger than"),
        (b"name = " + b"[" * 5000, "not TOML"),
    ],
    ids=["toml", "utf-8", "bom", "size", "depth"],
)
def test_files_that_are_no_spec(tmp_path, content, rule):
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    line = line_of(read_spec, path)
    assert str(path) in line
    assert rule in line


def test_missing_specs(tmp_path):
    assert "no such file or folder" in line_of(find_specs, [tmp_path / "absent"])
    assert "holds no spec.toml" in line_of(find_specs, [tmp_path])
    assert "cannot be read" in line_of(read_spec, tmp_path / "absent.toml")
    write_example(tmp_path)
    assert "is a model, not a spec" in line_of(read_spec, tmp_path / "model.onnx")
    assert "a spec, where an ONNX model is wanted" in line_of(onnx_file.read, tmp_path / "spec.toml")
    assert "is a folder: name the spec.toml in it" in line_of(read_spec, tmp_path)


def test_a_wrong_sha256_of_the_model(tmp_path):
    text = SPEC.replace('onnx = "model.onnx"', f'onnx = "model.onnx"\nsha256 = "{"0" * 64}"')
    line = line_of(validated, write_example(tmp_path, text))
    assert "model.sha256 = '000" in line
    assert "has sha256" in line


def test_a_right_sha256_of_the_model(tmp_path):
    path = write_example(tmp_path)
    found = stored.sha256_of(tmp_path / "model.onnx")
    path.write_text(SPEC.replace('onnx = "model.onnx"', f'onnx = "model.onnx"\nsha256 = "{found}"'))
    validated(path)


def test_npz_with_pickles(tmp_path):
    path = write_example(tmp_path)
    np.savez(tmp_path / "data.npz", rows=np.array([{"a": 1}], object))
    line = line_of(validated, path)
    assert "holds Python objects (pickles)" in line
    assert "data.npz:rows" in line


def test_npy_with_pickles(tmp_path):
    path = write_example(tmp_path, SPEC.replace('npz = "data.npz", member = "rows"', 'npy = "x.npy"'))
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object))
    assert "holds Python objects (pickles)" in line_of(validated, path)
    (tmp_path / "x.npy").write_bytes(pickle.dumps([1]))
    assert "cannot be read" in line_of(validated, path)


def test_truncated_data(tmp_path):
    path = write_example(tmp_path)
    whole = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in line_of(validated, path)


def test_models_that_are_none(tmp_path):
    path = write_example(tmp_path)
    whole = (tmp_path / "model.onnx").read_bytes()
    for content in (b"not a model", whole[: len(whole) // 2], b""):
        (tmp_path / "model.onnx").write_bytes(content)
        assert "model.onnx" in line_of(validated, path)


def test_unsupported_opset(tmp_path):
    path = write_example(tmp_path)
    model = linear_model()
    model.opset_import[0].version = 999
    onnx.save(model, tmp_path / "model.onnx")
    assert "opset" in line_of(validated, path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_external_data_that_escapes(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    path = write_example(folder)
    (tmp_path / "secret").write_bytes(bytes(64))
    model = linear_model()
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "length": str(size)}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    line = line_of(validated, path)
    assert location in line or "outside" in line


def test_unfetched_packages_say_how_to_get_them(tmp_path):
    pin = f'package = "magika==1.0.3"\nmember = "model.onnx"\nsha256 = "{"0" * 64}"'
    spec = read_spec(write_example(tmp_path, SPEC.replace('onnx = "model.onnx"', pin)))
    line = line_of(assets.model_path, spec, folder=tmp_path / "assets")
    assert "magika==1.0.3" in line
    assert "trt-harness fetch" in line


def test_code_can_be_refused(tmp_path):
    (tmp_path / "data.py").write_text("def load(): raise AssertionError")
    text = SPEC.replace('npz = "data.npz", member = "rows"', 'loader = "data.py:load"')
    spec = read_spec(write_example(tmp_path, text))
    line = line_of(Feeds(spec, allow_code=False).feed, {"input": (1, 4)})
    assert "inputs.input.data.loader = 'data.py:load'" in line
    assert "--trt-no-code" in line


def test_values_and_keys_are_cut(tmp_path):
    text = SPEC.replace('name = "example"', f"{json.dumps('k' * 5000)} = {json.dumps('v' * 5000)}")
    assert len(line_of(read_spec, write_example(tmp_path, text))) < 1200


def test_precision_words_are_those_of_the_enum():
    assert parse_spec(SPEC).precisions == (Precision.FP32, Precision.FP16)
