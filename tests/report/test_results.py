"""results.json and the journal: what is written is read again; what is broken is one line."""

import errno
import json

import pytest

from harness.errors import UsageError
from harness.records import Record, worst
from harness.report import results as results_json
from harness.report import summary
from harness.report.collect import Collector, Phase, case_in, kind_of, outcome
from harness.report.overview import distinct, overview
from harness.report.plain import dumps, write_text
from harness.report.results import Results, TestOutcome
from harness.report.terminal import seconds, table

NODE = "suites/test_outputs.py::test_outputs[net-fp16]"
HEAD = Results("run-1", "2026-01-01T00:00:00+00:00")


def made_record(verdict="pass", kind="outputs", model="net", precision="fp16", **more):
    return Record(kind, model, precision, "onnxruntime", verdict, **more)


def collected(tmp_path, *phases, nodeid=NODE):
    collector = Collector(tmp_path, HEAD, lambda: ["net-fp16"], lambda node: f"pytest {node}")
    collector.begin(nodeid)
    for phase in phases:
        collector.add(nodeid, phase)
    collector.end(nodeid)
    return collector


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = Results(
        "r", "2026-01-01T00:00:00+00:00", finished="2026-01-01T00:00:01+00:00", complete=True, exit_status=0,
        command=("pytest", "suites"), environment={"python": "3.11"}, options={"strict": False},
        not_fetched=("zoo",),
        records=(made_record(shapes={"x": [1, 4]}, data={"mre": 1e-3}, warnings=("w",)),),
        tests=(TestOutcome(NODE, "passed", 0.5),),
    )  # fmt: skip
    results_json.write(run, tmp_path)
    assert results_json.read(tmp_path) == run
    assert results_json.read(tmp_path / "results.json") == run


def test_numbers_that_json_has_not_become_text():
    assert json.loads(dumps({"a": float("nan"), "b": float("-inf"), "c": (1, 2.5)})) == {
        "a": "nan",
        "b": "-inf",
        "c": [1, 2.5],
    }


def test_numpy_scalars_become_numbers():
    np = pytest.importorskip("numpy")
    assert json.loads(dumps([np.float32(0.5), np.int64(3), np.bool_(True)])) == [0.5, 3, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("", "truncated or not JSON"),
        ('{"schema": 1, "run": "r", "star', "truncated or not JSON"),
        ("[]", "no `schema`"),
        ('{"a": 1}', "no `schema`"),
        ('{"schema": 99}', "schema = 99: this version reads 1 to"),
        ('{"schema": 1}', "run: Field required"),
        ('{"schema": 1, "run": "r", "started": "s", "records": [{"kind": "x"}]}', "records.0.kind"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, text, words):
    file = tmp_path / "results.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError) as error:
        results_json.read(file)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)
    assert words in str(error.value)


def test_a_file_that_is_not_text_is_one_line(tmp_path):
    (tmp_path / "results.json").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        results_json.read(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    file = write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_text(file, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_names_the_file_and_leaves_none(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="full") as caught:
        write_text(tmp_path / "a.txt", "text")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_known_of_the_environment_is_not_named():
    run = Results("r", "2026-01-01T00:00:00+00:00", environment={"backend": "auto", "provider": ""})
    assert "backend auto" in summary.lines(run)


def test_a_killed_run_keeps_its_finished_tests_and_names_the_open_one(tmp_path):
    collector = collected(tmp_path, Phase("passed", 1.0, records=[made_record().to_json()]))
    collector.begin("suites/test_outputs.py::test_outputs[net-int8]")
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write('{"record": {"ki')
    run = results_json.read(tmp_path)
    assert not run.complete
    assert [record.model for record in run.records] == ["net"]
    assert [(test.outcome, test.nodeid[-10:]) for test in run.tests] == [
        ("passed", "[net-fp16]"),
        ("error", "[net-int8]"),
    ]


def test_an_empty_journal_is_one_line(tmp_path):
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(UsageError, match="no test had begun"):
        results_json.read(tmp_path)


@pytest.mark.parametrize(
    ("phase", "verdict"),
    [(Phase("failed", message="boom"), "error"), (Phase("error"), "error"), (Phase("xfailed"), "error"),
     (Phase("failed", message="1 != 2", checked=True), "fail"), (Phase("passed"), "pass"),
     (Phase("skipped", message="no GPU"), "skipped")],
)  # fmt: skip
def test_a_test_that_left_no_record_gets_one(tmp_path, phase, verdict):
    (record,) = collected(tmp_path, phase).records
    assert (record.kind, record.model, record.precision) == ("outputs", "net", "fp16")
    assert (record.verdict, record.message) == (verdict, phase.message)
    assert record.reproduce == f"pytest {NODE}"


def test_a_failure_that_a_record_tells_is_not_told_twice(tmp_path):
    bad = made_record("precision-limited").to_json()
    assert len(collected(tmp_path, Phase("failed", records=[bad])).records) == 1


def test_a_failure_after_a_good_record_is_told(tmp_path):
    good = made_record("pass").to_json()
    verdicts = [r.verdict for r in collected(tmp_path, Phase("failed", records=[good])).records]
    assert verdicts == ["pass", "error"]


def test_a_silent_pass_is_told_once_for_a_case_and_beside_skips_alone(tmp_path):
    collector = Collector(tmp_path, HEAD, lambda: ["net-fp16"])
    for name, outcome_of in (("a", "skipped"), ("b", "passed"), ("c", "passed")):
        nodeid = f"mine/test_{name}.py::test[net-fp16]"
        collector.begin(nodeid)
        collector.add(nodeid, Phase(outcome_of))
        collector.end(nodeid)
    assert [record.verdict for record in collector.records] == ["skipped", "pass"]
    assert overview(collector.records)[0].verdict == "pass"


def test_tests_of_no_case_are_written_down_only_beside_those_of_one(tmp_path):
    collector = Collector(tmp_path / "run", HEAD, lambda: ["net-fp16"])
    collector.begin("tests/test_x.py::test_y")
    assert not collector.begun
    assert not collector.folder.exists()
    collector.begin(NODE)
    lines = (tmp_path / "run" / "records.jsonl").read_text().splitlines()
    assert ["started" in line for line in lines] == [True] * 3
    assert [json.loads(line).get("started") for line in lines[1:]] == ["tests/test_x.py::test_y", NODE]


def test_tests_without_a_case_leave_no_record(tmp_path):
    assert collected(tmp_path, Phase("failed"), nodeid="tests/test_x.py::test_y").records == []


def test_a_test_that_a_crash_left_open_is_an_error(tmp_path):
    collector = Collector(tmp_path, HEAD, lambda: ["net-fp16"])
    collector.begin(NODE)
    run = collector.results(exit_status=2, complete=False)
    assert [test.outcome for test in run.tests] == ["error"]
    assert [record.verdict for record in run.records] == ["error"]


def test_what_breaks_before_auto_has_chosen_a_backend_names_the_chosen_one(tmp_path):
    head = Results("run-1", "2026-01-01T00:00:00+00:00", environment={"backend": "auto"})
    collector = Collector(tmp_path, head, lambda: ["net-fp16"])
    for nodeid, phase in (
        (NODE, Phase("error")),
        (f"{NODE[:-1]}-b]", Phase("passed", records=[made_record().to_json()])),
    ):
        collector.begin(nodeid)
        collector.add(nodeid, phase)
        collector.end(nodeid)
    records = collector.results(exit_status=1, complete=True).records
    assert [(r.verdict, r.backend) for r in records] == [("error", "onnxruntime"), ("pass", "onnxruntime")]


def test_the_worst_phase_decides():
    phases = [Phase("passed", 1.0), Phase("passed", 2.0), Phase("error", 0.5, "teardown")]
    assert outcome(NODE, phases) == TestOutcome(NODE, "error", 3.5, "teardown")


@pytest.mark.parametrize(
    ("nodeid", "kind"),
    [
        (NODE, "outputs"),
        ("suites/test_engines.py::test_engine[a-b-int8+fp16]", "engine"),
        ("test_latency.py::test_latency[net-fp32]", "latency"),
        ("tests/test_x.py::test_y", "engine"),
        ("tests/test_x.py::test_outputs[net-fp32]", "engine"),
        ("::test_outputs[net-fp32]", "outputs"),
        ("::test_engine[net-fp32]", "engine"),
    ],
)
def test_the_file_of_a_test_tells_the_kind_of_its_records(nodeid, kind):
    assert kind_of(nodeid) == kind


@pytest.mark.parametrize(
    ("parameters", "case"),
    [
        ("net-fp16", ("net", "fp16")),
        ("net-fp16-batch-rows", ("net", "fp16")),
        ("net-int8+fp16", ("net", "int8+fp16")),
        ("net-fp16-v2-fp32:opt", ("net-fp16-v2", "fp32")),
        ("nets-fp16", None),
        ("", None),
    ],
)
def test_the_parameters_of_a_test_tell_its_case(parameters, case):
    ids = ["net-fp16", "net-int8", "net-int8+fp16", "net-fp16-v2-fp32"]
    assert case_in(f"suites/test_x.py::test_y[{parameters}]", ids) == case


def test_the_overview_has_the_worst_of_each_case():
    rows = overview(
        [
            made_record("pass", data={"mre": 1e-4, "limit": 5e-3}),
            made_record("precision-limited", data={"mre": "nan", "limit": 5e-3}, warnings=("w",)),
            made_record("pass", kind="accuracy", data={"drop": 0.01}),
            made_record("pass", model="other"),
        ]
    )
    assert [(row.model, row.verdict) for row in rows] == [("net", "precision-limited"), ("other", "pass")]
    assert rows[0].mre != rows[0].mre
    assert (rows[0].drop, rows[0].warnings) == (0.01, 1)
    assert rows[0].verdicts == {"outputs": "precision-limited", "accuracy": "pass"}


def test_warnings_that_differ_in_figures_alone_are_one():
    usual = "output '{}': mre {} is above the usual 1.0e-03 of fp16"
    said = [usual.format("a.1", "1.1e-03"), usual.format("a.1", "1.3e-02"), usual.format("a.2", "1.2e-03")]
    assert distinct([*said, "3 tensors vanish", "4 tensors vanish", said[0]]) == [
        f"{said[1]} (the largest of 2)",
        said[2],
        "3 tensors vanish",
        "4 tensors vanish",
    ]
    (row,) = overview([made_record(warnings=(said[0],)), made_record(warnings=(said[1], said[2]))])
    assert row.warnings == 2


def test_the_overview_has_precisions_from_fp32_down():
    rows = overview(
        [made_record(model=m, precision=p) for m, p in (("b", "int8"), ("a", "fp16"), ("b", "fp32"))]
    )
    assert [(row.model, row.precision) for row in rows] == [("b", "fp32"), ("b", "int8"), ("a", "fp16")]


def test_an_engine_that_could_not_be_run_is_unverified():
    (row,) = overview([made_record(kind="engine"), made_record("skipped")])
    assert row.verdict == "unverified"
    (row,) = overview([made_record("fail", kind="engine"), made_record("skipped")])
    assert row.verdict == "fail"


def test_an_unknown_verdict_is_the_worst():
    assert worst(["pass", "strange", "error"]) == "strange"


def test_the_table_is_aligned_and_survives_hostile_names():
    rows = overview([made_record(model="net\n\x1b[31m" + "x" * 10_000), made_record(model="b")])
    lines = table(rows)
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 200 for line in lines)
    assert lines[0].index("precision") == lines[2].index("fp16")


@pytest.mark.parametrize(("value", "text"), [(None, ""), (2.0, "2.0 s"), (3e-3, "3.0 ms"), (4e-6, "4.0 us")])
def test_durations_have_a_unit_that_fits(value, text):
    assert seconds(value) == text


def test_the_summary_shows_failures_with_their_command_and_escapes_names():
    bad = made_record("engine-suspect", model="<script>|x", message="mre 1\n```\nmore", reproduce="pytest x")
    text = "\n".join(summary.lines(Results("r", "s", records=(bad,), not_fetched=("magika",))))
    assert "<script>" not in text
    assert "\\<script\\>\\|x" in text
    assert "````\nmre 1\n```\nmore\n````" in text
    assert "pytest x" in text
    assert "magika" in text
    assert "was cut short" in text
