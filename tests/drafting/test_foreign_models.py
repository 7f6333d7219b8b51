"""Models as other exporters write them: labels as text, maps, operators that TensorRT has not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

# Runs in this process import nothing anew: modules written in C do not bear being loaded twice.
import harness.backends.onnxruntime.slices
import harness.engines.subject
import harness.layers.case
import harness.plugin.preflight
import harness.verdict.validate  # noqa: F401
from harness.cli import main
from harness.drafting import draft as spec_draft
from harness.errors import ModelError, SpecError
from harness.options import Options
from harness.plugin.preflight import check_spec
from harness.spec.file import read_spec
from tests.helpers.models import linear_model
from tests.helpers.project import SUITES, only_run, write_project

ML = "ai.onnx.ml"
SCORES = [0.5, -1.0, 0.25, 2.0, 1.0, 0.5, -0.5, 0.125, 1.5, -2.0, 0.75, 1.0]
CLASSES = {"classlabels_strings": ["a", "b", "c"]}
VALUE = helper.make_tensor_value_info


def write_classifier(file, more=(), outputs=()):
    """A linear classifier as from scikit-learn: four numbers to a label in words and three scores."""
    node = helper.make_node(
        *("LinearClassifier", ["x"], ["label", "scores"], "linear"),
        **{"domain": ML, "coefficients": SCORES, "intercepts": [0.0, 0.1, 0.2], **CLASSES},
    )
    outputs = outputs or [VALUE("label", TensorProto.STRING, ["n"])]
    ends = [*outputs, VALUE("scores", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph([node, *more], "g", [VALUE("x", TensorProto.FLOAT, ["n", 4])], ends)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), file)


@pytest.fixture
def project(pytester, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("PYTHONPATH", str(SUITES.parent))
    write_project(pytester.path, "engines", "outputs", "layers")
    return pytester


def run(project, *arguments):
    options = ("--trt-backend=onnxruntime", "--trt-spec=spec.toml")
    return project.runpytest_inprocess("suites", *options, *arguments)


def test_a_drafted_spec_ignores_labels_in_words_and_runs(project):
    write_classifier(project.path / "model.onnx")
    assert main(["init", str(project.path / "model.onnx")]) == 0
    assert read_spec(project.path / "spec.toml").outputs["label"].compare == "ignore"
    run(project, "--trt-precision=fp32", "--trt-target=onnxruntime").assert_outcomes(passed=4)


def test_what_tensorrt_would_refuse_is_not_green(project):
    write_classifier(project.path / "model.onnx")
    assert main(["init", str(project.path / "model.onnx")]) == 0
    result = run(project, "--trt-precision=fp32")
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines(
        [
            "model?fp32?: tensorrt refuses it:",
            "  node *: * of domain 'ai.onnx.ml' needs a plugin; export with operators of ONNX: *",
            "model * fp32 * not-deployable *",
        ]
    )
    assert "not-deployable" in (only_run(project) / "summary.md").read_text().replace("\\", "")
    allowed = run(project, "--trt-precision=fp32", "--trt-allow=not-deployable")
    allowed.assert_outcomes(passed=4)
    allowed.stdout.fnmatch_lines(["model * fp32 * not-deployable * not-deployable is allowed"])


def test_weights_that_nothing_reads_are_no_obstacle(project):
    model = linear_model()
    unused = np.ones((64, 64), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(unused, "unused"))
    onnx.save(model, project.path / "model.onnx")
    assert main(["init", str(project.path / "model.onnx")]) == 0
    run(project, "--trt-precision=fp32").assert_outcomes(passed=4)


def test_a_precision_that_nothing_has_is_told_with_what_tensorrt_would_say(project):
    write_classifier(project.path / "model.onnx")
    assert main(["init", str(project.path / "model.onnx")]) == 0
    result = run(project, "--trt-precision=fp16", "-k", "test_engine")
    result.stdout.fnmatch_lines(
        [
            "model?fp16?: tensorrt refuses it:",
            "  node *: * of domain 'ai.onnx.ml' needs a plugin; export with operators of ONNX: *; "
            "fp16 was asked, no node of 1 is fp16; the commonest reason: custom domain *.ml",
            "  reproduce: *",
        ]
    )


def test_an_output_that_cannot_be_compared_is_told_before_the_first_build(tmp_path):
    write_classifier(tmp_path / "model.onnx")
    main(["init", str(tmp_path / "model.onnx")])
    path = tmp_path / "spec.toml"
    path.write_text(path.read_text().replace('compare = "ignore"', 'compare = "exact"'))
    line = r"outputs\.label\.compare = 'exact': the output is STRING, which cannot be compared: must be i"
    with pytest.raises(SpecError, match=line):
        check_spec(read_spec(path), Options())


def test_maps_are_told_with_the_way_out(tmp_path):
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    made = helper.make_map_type_proto(TensorProto.STRING, number)
    maps = [helper.make_value_info("maps", helper.make_sequence_type_proto(made))]
    zipped = helper.make_node("ZipMap", ["scores"], ["maps"], "zip", domain=ML, **CLASSES)
    write_classifier(tmp_path / "model.onnx", [zipped], maps)
    with pytest.raises(ModelError, match=r"model\.onnx: 'maps' holds maps.*'zipmap': False"):
        spec_draft.draft_spec(tmp_path / "model.onnx")


def test_a_model_that_computes_in_bfloat16_has_no_reference(tmp_path):
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, [4, 2], np.zeros(8))
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], "narrow", to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["m"], "product"),
        helper.make_node("Cast", ["m"], ["y"], "widen", to=TensorProto.FLOAT),
    ]
    ends = [VALUE("x", TensorProto.FLOAT, ["n", 4])], [VALUE("y", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "g", *ends, [weight])
    opsets = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "model.onnx")
    assert main(["init", str(tmp_path / "model.onnx")]) == 1
    told = "node 'product' (MatMul) computes in BFLOAT16, in which there is no reference: export the model"
    assert told in (tmp_path / "spec.toml").read_text()
    with pytest.raises(ModelError) as caught:
        check_spec(read_spec(tmp_path / "spec.toml"), Options())
    assert f"{tmp_path / 'model.onnx'}: {told}" in str(caught.value)
