"""What a user can get wrong about precision, each told in one clear line."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import harness.backends.onnxruntime.backend
import harness.engines.subject
import harness.plugin.preflight
import harness.verdict.validate  # noqa: F401
from harness import cli
from harness.errors import SpecError, UsageError
from harness.options import Options
from harness.plugin.preflight import check_spec
from harness.spec.file import read_spec
from tests.helpers.project import SUITES, write_case, write_project


def write_model(file, weight=1.0):
    """y = double(x * constant) + weight, with a Constant node and a local function."""
    value = numpy_helper.from_array(np.float32([2]), "value")
    nodes = [
        helper.make_node("Constant", [], ["c"], name="two", value=value),
        helper.make_node("Mul", ["x", "c"], ["h"], name="scale"),
        helper.make_node("Double", ["h"], ["d"], name="call", domain="own"),
        helper.make_node("Add", ["d", "w"], ["y"], name="add"),
    ]
    twice = helper.make_function(
        "own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"], name="inside")],
        [helper.make_opsetid("", 19)],
    )  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.float32([weight]), "w")],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=10), file)


def spec_of(tmp_path, text, weight=1.0):
    path = write_case(tmp_path / "net", precisions=("fp32", "fp16"), extra=text)
    write_model(path.parent / "model.onnx", weight)
    return path


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ('fp32_nodes = ["scael"]', "matches no node name of the model; did you mean 'scale'?"),
        ('fp32_nodes = ["nothing/*"]', "matches no node name of the model"),
        ('fp32_op_types = ["Conv"]', "matches no op type of the model"),
        (
            'fp32_nodes = ["two"]',
            "names 'two', a Constant, which becomes a weight: keep the node that reads it instead",
        ),
        (
            'fp32_op_types = ["Constant"]',
            "names 'two', a Constant, which becomes a weight: keep the node that reads it instead",
        ),
        (
            'fp32_nodes = ["call"]',
            "names 'call', a call of a local function, which is replaced by the function's nodes",
        ),
    ],
)
def test_a_plan_that_names_what_is_not_there(tmp_path, entry, line):
    path = spec_of(tmp_path, f"[precision.fp16]\n{entry}\n")
    with pytest.raises(SpecError) as caught:
        check_spec(read_spec(path), Options())
    key = entry.partition(" ")[0]
    text = str(caught.value)
    assert text.startswith(f"{path}: precision.fp16.{key} = ")
    assert text.endswith(line)
    assert "\n" not in text


def test_a_node_inside_a_function_is_there_once_it_is_inlined(tmp_path):
    path = spec_of(tmp_path, '[precision.fp16]\nfp32_nodes = ["*inside*"]\n')
    check_spec(read_spec(path), Options())


@pytest.fixture
def project(pytester, monkeypatch, tmp_path):
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(SUITES.parent))
    write_project(pytester.path, "outputs")
    return pytester


def one_error(result):
    said = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in said
    return said


def test_a_suite_ends_with_the_line_before_anything_is_built(project):
    path = spec_of(project.path / "suites" / "models", '[precision.fp16]\nfp32_nodes = ["two"]\n')
    result = project.runpytest_inprocess("suites", "--trt-backend=onnxruntime")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"{path}: precision.fp16.fp32_nodes = 'two': names 'two', a Constant" in one_error(result)


def test_a_reference_that_is_not_finite(project, tmp_path, capsys):
    path = spec_of(project.path / "suites" / "models", "", weight=np.inf)
    result = project.runpytest_inprocess("suites", "--trt-backend=onnxruntime", "--trt-precision=fp16")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = one_error(result)
    assert "output 'y' has 0 NaN and 4 infinite of 4 elements in FP32: nothing to compare with" in said
    capsys.readouterr()
    options = ["--precision=fp16", "--backend=onnxruntime", "--cache-dir", str(tmp_path / "cache")]
    assert cli.main(["search-fp32", str(path), *options]) == 4
    assert "of the FP32 reference is not finite" in capsys.readouterr().err.splitlines()[-1]


def test_zero_samples(tmp_path):
    path = spec_of(tmp_path, "")
    np.savez(path.parent / "data.npz", x=np.zeros((0, 4), np.float32))
    with pytest.raises(UsageError, match=r"data.npz:x.* is empty: its shape is \(0, 4\)") as caught:
        check_spec(read_spec(path), Options())
    assert "\n" not in str(caught.value)
