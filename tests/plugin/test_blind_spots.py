"""What a verdict cannot see stands beside it: in the record, the terminal's table and summary.md."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

# These load extension modules, once and for all, before a run in this process does.
import harness.engines.subject
import harness.plugin.preflight
import harness.verdict.validate  # noqa: F401
from harness.report import results as results_json
from tests.helpers.project import only_run, run, write_case


def spoil_data(project, x):
    path = project.path / "suites" / "models" / "net" / "data.npz"
    np.savez(path, x=x.astype(np.float32), labels=np.arange(16) % 2)


CASES = {
    "rows": (np.ones((16, 4)) * [1.0, 2.0, 3.0, 4.0], "these data cannot tell rows apart"),
    "zero": (-np.ones((16, 4)), "output 'y' is all zero on these data"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_stands_in_every_table(project, name):
    x, said = CASES[name]
    write_case(project.path / "suites" / "models" / "net", precisions=["fp32"], extra="")
    spoil_data(project, x)
    result = run(project)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"net *fp32 *pass* *{said}*"])
    assert all(said in r.caveats for r in results_json.read(only_run(project)).records)
    assert said in (only_run(project) / "summary.md").read_text().replace("\\", "")
    assert said.replace("'", "&#39;") in (only_run(project) / "report.html").read_text()


def test_a_random_model_is_unverified_not_right(project):
    folder = project.path / "suites" / "models" / "net"
    write_case(folder, precisions=["fp32"], extra="")
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["y"], "draw")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")
    result = run(project)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["net *fp32 *unverified* *random: nothing to compare*"])
    assert {r.data["mre"] for r in results_json.read(only_run(project)).records} == {None}
