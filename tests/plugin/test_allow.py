"""`--trt-allow`: a verdict that the user lets through fails no test, and is recorded as let through."""

# These load extension modules, once and for all, before a run in this process does.
import harness.engines.subject
import harness.plugin.preflight
import harness.verdict.validate  # noqa: F401
from harness.report import results as results_json
from tests.helpers.project import only_run, run, write_case

STRICT = "[precision.fp16.tolerance]\nlimit = 1e-9\n"


def test_what_is_let_through_is_recorded_and_fails_nothing(project):
    write_case(project.path / "suites" / "models" / "net", precisions=["fp16"], extra=STRICT)
    result = run(project, "--trt-allow", "precision-limited", "--trt-allow=engine-suspect")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["net *fp16 *precision-limited* precision-limited is allowed"])
    found = results_json.read(only_run(project))
    assert {(r.verdict, r.allowed) for r in found.records} == {("precision-limited", True)}
    assert found.records[0].message
    assert found.options["allow"] == ["precision-limited", "engine-suspect"]
    assert found.exit_status == 0


def test_another_verdict_is_not_let_through(project):
    write_case(project.path / "suites" / "models" / "net", precisions=["fp16"], extra=STRICT)
    run(project, "--trt-allow", "engine-suspect").assert_outcomes(failed=1)


def test_a_verdict_that_cannot_be_let_through_is_one_line(project):
    result = run(project, "--trt-allow", "pass")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--trt-allow = 'pass': must be one of undecided, precision-limited, *"])
