"""The plugin as users meet it: options, header, cases, reports, mistakes told in one line."""

import json
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

# Runs in this process import nothing anew: modules written in C do not bear being loaded twice.
import harness.backends.onnxruntime.backend
import harness.engines.subject
import harness.plugin.preflight
import harness.verdict.validate  # noqa: F401
from harness.report import results as results_json
from tests.helpers.project import SUITES, only_run, run, write_case

ROOT = SUITES.parent


def test_a_run_passes_and_writes_its_pages(project):
    result = run(project)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*TensorRT harness *: backend onnxruntime*", "models: net (fp32, fp16)"])
    result.stdout.fnmatch_lines(["*= TensorRT harness =*", "model * precision * verdict*", "net * fp16 *"])
    folder = only_run(project)
    assert {"results.json", "summary.md", "junit.xml"} <= {file.name for file in folder.iterdir()}
    found = results_json.read(folder)
    assert found.complete
    assert found.exit_status == 0
    assert {record.verdict for record in found.records} == {"pass"}
    assert {record.data["shape"] for record in found.records} == {"min", "opt", "max", "between"}
    assert all(record.manifest and record.reproduce and record.nodeid for record in found.records)


def test_the_users_own_junit_file_is_left_to_the_user(project):
    run(project, "--junitxml=mine.xml")
    assert (project.path / "mine.xml").is_file()
    assert not (only_run(project) / "junit.xml").exists()


def test_a_failure_says_what_where_got_allowed_and_how_to_reproduce(project):
    write_case(project.path / "suites" / "models" / "net", precisions=["fp16"], extra=(
        "[precision.fp16.tolerance]\nlimit = 1e-9\n"
    ))  # fmt: skip
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "net?fp16?: precision-limited; * of * shapes fail",
            "*profile 'default' min, x=1x4 output 'y': mre * > 1.0e-09",
            "*allowed at fp16: mre 1.0e-09*",
            "*profile 'default' max, x=5x4: output 'y': mre *",
            "*search-fp32*",
            "*reproduce: pytest 'suites/test_outputs.py::test_outputs?net-fp16?' --trt-backend=onnxruntime",
        ]
    )
    assert {record.verdict for record in results_json.read(only_run(project)).records} == {
        "precision-limited"
    }
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--trt-precision=fp16"], ["net-fp16"]),
        (["--trt-model=n*"], ["net-fp32", "net-fp16"]),
        (["--trt-spec=own"], ["own-fp32"]),
    ],
)
def test_options_choose_the_cases(project, arguments, ids):
    write_case(project.path / "own", name="own", precisions=["fp32"])
    result = run(project, "--collect-only", "-q", *arguments)
    assert [line.partition("[")[2][:-1] for line in result.outlines if "::" in line] == ids


def test_one_engine_at_a_time(project):
    write_case(project.path / "suites" / "models" / "more", name="more", precisions=["fp32"])
    (project.path / "suites" / "test_engines.py").write_text((SUITES / "test_engines.py").read_text())
    result = run(project, "--collect-only", "-q")
    ids = [line.partition("[")[2][:-1] for line in result.outlines if "::" in line]
    assert list(dict.fromkeys(ids)) == [key for key, _ in groupby(ids)]
    assert "test_engine[" in result.outlines[0]


BROKEN = {
    "a report folder that is a file": (["--trt-report-dir=conftest.py"], None, "--trt-report-dir"),
    "a cache folder that is a file": (["--trt-cache-dir=conftest.py"], None, "--trt-cache-dir"),
    "a folder of models that is not there": (["-otrt_models=gone"], None, "trt_models = "),
    "expected failures that are not there": (["-otrt_xfails=gone.txt"], None, "trt_xfails = 'gone.txt'"),
    "an unknown option value": (["--trt-precision=fp17"], None, "--trt-precision = 'fp17'"),
    "a model that is not there": (["--trt-model=none"], None, "--trt-model"),
    "a spec that is not there": (["--trt-spec=nowhere"], None, "--trt-spec = 'nowhere'"),
    "an unknown key": ([], ("[task]", "[tusk]"), "tusk"),
    "data that are not there": ([], ("data.npz", "gone.npz"), "gone.npz"),
    "a wrong input name": ([], ("inputs.x", "inputs.z"), "z"),
    "a wrong rank": ([], ("[1, 4]", "[1, 4, 1]"), "shapes"),
    "min above opt": ([], ("[1, 4]", "[3, 4]"), "min <= opt"),
    "an unknown precision": ([], ("fp16", "fp17"), "fp17"),
    "a dtype that is not the data's": ([], ('"float32"', '"float64"'), "float64"),
    "a glob without a node": (
        [],
        ("[task]", "[precision.fp16]\nfp32_nodes=['nothing*']\n[task]"),
        "nothing*",
    ),
    "a batch size that fits nowhere": (
        [],
        ("[task]", "[benchmark]\nbatch_sizes=[64]\n[task]"),
        "benchmark.batch_sizes = [64]",
    ),
    "another sha256": ([], ("[task]", f"[model]\nsha256='{'0' * 64}'\n[task]"), "sha256"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_mistake_is_one_line_and_exit_code_4(project, name):
    arguments, change, words = BROKEN[name]
    spec = project.path / "suites" / "models" / "net" / "spec.toml"
    if change:
        text = spec.read_text().replace('model.onnx = "model.onnx"\n', "") if "[model]" in change[1] else ""
        text = (text or spec.read_text()).replace(*change)
        spec.write_text(text.replace("[model]\n", '[model]\nonnx = "model.onnx"\n'))
    result = run(project, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line.strip()]
    assert len(errors) == 1
    assert errors[0].startswith("ERROR: ")
    assert words in errors[0]
    assert "Traceback" not in result.stdout.str()
    assert not list(project.path.glob("reports/*"))


MINE = """\
def test_case(case, built):
    assert case.precision != "fp16", "a check of mine"

def test_broken(case):
    if case.precision == "fp32":
        raise RuntimeError("broken")

def test_plain():
    pass
"""


def test_tests_of_the_users_own_pass_fail_and_break_in_the_table(project):
    (project.path / "suites" / "test_mine.py").write_text(MINE)
    run(project, "-k", "test_case")
    (record,) = [r for r in results_json.read(only_run(project)).records if r.precision == "fp32"]
    assert record.verdict == "pass"
    result = run(project, "-k", "mine")
    result.stdout.fnmatch_lines(["net * fp32 * error*", "net * fp16 * fail*"])


def test_a_run_of_no_case_writes_no_report_and_reads_no_model(project):
    (project.path / "suites" / "test_mine.py").write_text(MINE)
    (project.path / "suites" / "models" / "net" / "model.onnx").write_bytes(b"no model")
    result = run(project, "-k", "plain")
    result.assert_outcomes(passed=1, deselected=6)
    assert result.ret == pytest.ExitCode.OK
    assert not (project.path / "reports").exists() or not list((project.path / "reports").iterdir())


def test_a_report_folder_that_cannot_be_made_is_a_mistake_before_the_first_test(project, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.plugin.run.tempfile.mkdtemp", full)
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [line for line in result.errlines if line.strip()]
    assert error.endswith("is no folder that can be written into: No space left on device")


def test_a_test_of_cases_without_any_model_is_a_mistake_not_a_skip(project):
    shutil.rmtree(project.path / "suites" / "models")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no model to test: set trt_models" in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_broken_model_is_one_line_that_names_it(project, content):
    file = project.path / "suites" / "models" / "net" / "model.onnx"
    file.write_bytes(file.read_bytes()[:60] if content is None else content)
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (error,) = [line for line in result.errlines if line.strip()]
    assert "model.onnx" in error


def test_a_mistake_that_shows_late_spares_the_other_models_and_still_ends_in_exit_code_4(project):
    write_case(project.path / "suites" / "models" / "bad", name="bad", weight=[[float("nan")] * 2] * 4)
    result = run(project)
    result.assert_outcomes(passed=2, errors=2)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["DataError: bad reference: output 'y' has * NaN*"])
    records = results_json.read(only_run(project)).records
    assert {(record.model, record.verdict) for record in records} == {("bad", "error"), ("net", "pass")}


def test_an_expected_failure_is_expected_and_an_unexpected_pass_fails(project):
    xfails = project.path / "suites" / "xfails.txt"
    xfails.write_text("suites/test_outputs.py::test_outputs[net-fp16]  # known\n")
    run(project).assert_outcomes(passed=1, failed=1)
    write_case(project.path / "suites" / "models" / "net", extra="[precision.fp16.tolerance]\nlimit = 1e-9\n")
    result = run(project)
    result.assert_outcomes(passed=1, xfailed=1)
    assert result.ret == 0


def test_a_stale_expected_failure_is_told(project):
    xfails = project.path / "suites" / "xfails.txt"
    xfails.write_text("# all is well\nsuites/test_outputs.py::test_outputs[gone-fp16]  # known\n")
    result = run(project)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*xfails.txt:2: stale, no such test: *gone-fp16*"])


def test_an_expected_failure_without_reason_is_one_line(project):
    (project.path / "suites" / "xfails.txt").write_text("suites/test_outputs.py::test_outputs[net-fp16]\n")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *xfails.txt:1: *must read*"])


def test_models_not_fetched_are_named_and_left_out(project):
    spec = write_case(project.path / "suites" / "models" / "zoo", name="zoo", precisions=["fp32"])
    member = f'model = {{ package = "pip-package==1.0", member = "a/m.onnx", sha256 = "{"0" * 64}" }}'
    spec.write_text(spec.read_text().replace('model.onnx = "model.onnx"', member))
    result = run(project)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["not fetched (make zoo): zoo"])
    assert results_json.read(only_run(project)).not_fetched == ("zoo",)


def test_an_interrupted_run_is_written(project):
    (project.path / "suites" / "test_zz.py").write_text("def test_stop(): raise KeyboardInterrupt\n")
    project.runpytest_inprocess("suites", "--trt-backend=onnxruntime", no_reraise_ctrlc=True)
    found = results_json.read(only_run(project))
    assert not found.complete
    assert len(found.records) > 0


def test_a_full_disk_costs_the_report_and_says_so(project, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.plugin.run.write_run", full)
    result = run(project, "--junitxml=mine.xml")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["net * fp16 *pass*", "the report could not be written: *No space left*"])


def test_a_page_whose_package_is_missing_costs_that_page_and_says_so(project, monkeypatch):
    monkeypatch.delitem(sys.modules, "harness.report.pages.html", raising=False)
    monkeypatch.delattr("harness.report.pages.html", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run(project)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["net * fp16 *pass*", "the report could not be written: *jinja2*"])
    (report,) = (project.path / "reports").iterdir()
    assert (report / "results.json").exists()


def test_runs_of_other_tests_write_nothing(project):
    (project.path / "test_other.py").write_text("def test_nothing(): pass\n")
    result = project.runpytest_inprocess("test_other.py")
    result.assert_outcomes(passed=1)
    assert not (project.path / "reports").exists()
    assert "TensorRT harness" not in result.stdout.str()


def test_fixtures_of_the_same_name_in_other_projects_are_theirs(pytester):
    pytester.makeconftest('pytest_plugins = ["harness.plugin.hooks"]')
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(params=[1, 2])
        def case(request):
            return request.param

        def test_own_fixture(case):
            assert case in (1, 2)

        @pytest.mark.parametrize("engine", ["a"])
        def test_own_parameter(engine):
            assert engine == "a"
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=3)


def test_a_backend_that_is_not_installed_ends_the_run_in_one_line(project):
    result = run(project, "--trt-backend=tensorrt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*Exit: *tensorrt*pip install*"])


COLLECT = """\
import sys, pytest
code = pytest.main(["--collect-only", "-q", "suites", "-p", "no:cacheprovider"])
heavy = ["onnxruntime", "tensorrt", "tensorrt_rtx", "onnx", "onnx_ir", "scipy", "plotly", "jinja2"]
print("LOADED", code, [name for name in heavy if name in sys.modules])
"""


def test_collecting_the_suites_imports_no_runtime():
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "LOADED 0 []" in done.stdout, done.stdout[-2000:] + done.stderr


@pytest.mark.slow
def test_records_cross_xdists_processes(project):
    result = project.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-n2")
    result.assert_outcomes(passed=2)
    found = results_json.read(only_run(project))
    assert {(record.precision, record.verdict) for record in found.records} == {
        ("fp32", "pass"),
        ("fp16", "pass"),
    }


@pytest.mark.slow
def test_a_crashed_worker_leaves_an_error_and_the_other_records(project):
    (project.path / "suites" / "test_engines.py").write_text(
        "import os\ndef test_engine(case): os.abort() if case.precision == 'fp16' else None\n"
    )
    project.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-n1")
    found = results_json.read(only_run(project))
    errors = {(record.kind, record.precision) for record in found.records if record.verdict == "error"}
    assert errors == {("engine", "fp16")}
    assert any(record.kind == "outputs" and record.verdict == "pass" for record in found.records)


@pytest.mark.slow
def test_a_killed_run_keeps_its_journal(project):
    (project.path / "suites" / "test_zz.py").write_text(
        "import os\ndef test_die(): os.kill(os.getpid(), 9)\n"
    )
    project.runpytest_subprocess("suites", "--trt-backend=onnxruntime")
    found = results_json.read(only_run(project))
    assert not found.complete
    assert {record.verdict for record in found.records} == {"pass"}
    assert [test.outcome for test in found.tests][-1] == "error"


def test_results_are_strict_json(project):
    run(project)
    text = Path(only_run(project), "results.json").read_text()
    json.loads(text, parse_constant=pytest.fail)
