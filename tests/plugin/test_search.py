"""`--trt-search-fp32` in a run: recorded, proposed, and only where it is asked for."""

# These load extension modules, once and for all, before a run in this process does.
import harness.engines.subject
import harness.plugin.preflight
import harness.verdict.validate  # noqa: F401
from harness.report import results as results_json
from tests.helpers.project import only_run, run, write_case


def test_a_search_is_run_where_asked_recorded_and_proposed(project):
    write_case(
        project.path / "suites" / "models" / "net",
        precisions=["fp16"],
        weight=[[3e4, 1], [1, 3e4], [1, 1], [1, 1]],
        extra="",
    )
    result = run(project, "--trt-search-fp32")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "net?fp16?: precision-limited; *",
            "net?fp16?: * of 2 nodes must stay FP32",
            "*TensorRT harness*",
            "net?fp16?: proposal: keep * in FP32: matmul*",
        ]
    )
    folder = only_run(project)
    (search,) = [r for r in results_json.read(folder).records if r.kind == "search"]
    assert search.verdict == "pass"
    assert search.data["minimal"]
    assert search.data["engine_mre"] < 5e-3
    text = (folder / "summary.md").read_text()
    assert "## FP32 nodes" in text
    assert '[precision.fp16]\nfp32_nodes = [\n    "matmul",\n' in text


def test_without_the_option_nothing_is_searched(project):
    write_case(project.path / "suites" / "models" / "net", precisions=["fp16"], extra=(
        "[precision.fp16.tolerance]\nlimit = 1e-9\n"
    ))  # fmt: skip
    run(project).assert_outcomes(failed=1)
    assert {r.kind for r in results_json.read(only_run(project)).records} == {"outputs"}
