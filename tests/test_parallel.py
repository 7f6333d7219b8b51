"""Workers of pytest-xdist: GPUs and processors shared out, tests of an engine kept together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import gpus, parallel
from harness.backends import ort_session
from harness.backends.ort_device import gpu_facts
from harness.errors import BackendUnavailableError
from harness.gpus import Pool, gpu_names, settle, share, uses_gpus
from harness.options import Options
from harness.parallel import Parallel, models_of, worker_count
from harness.precision import Precision
from harness.report import results as results_json
from harness.report.collect import Phase
from harness.run import Run
from harness.selection import Case, Selection
from harness.xdist_groups import EngineScheduling
from tests.helpers_project import write_project
from tests.helpers_specs import made_spec

SMI = """#!/bin/sh
echo GPU-aa
echo GPU-bb
"""


@pytest.mark.parametrize(
    ("visible", "names"),
    [("0,2", ("0", "2")), (" GPU-x , 1", ("GPU-x", "1")), ("", ()), ("-1", ()), ("1,-1,2", ("1",))],
)
def test_gpus_are_those_that_cuda_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names() == names


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = SMI) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(text)
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_without_the_variable_all_gpus_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch)
    assert gpu_names() == ("GPU-aa", "GPU-bb")
    assert worker_count("onnxruntime", "CUDAExecutionProvider") == 2


def test_a_driver_that_is_stuck_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(gpus, "SMI_S", 0.2)
    for ask in (gpu_names, gpu_facts.__wrapped__):
        with pytest.raises(BackendUnavailableError, match=r"nvidia-smi did not answer within 0\.2 s"):
            ask()


def test_a_tool_without_a_driver_means_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "#!/bin/sh\necho failed\nexit 9\n")
    assert gpu_names() == ()
    assert worker_count("onnxruntime", "CUDAExecutionProvider") is None


@pytest.mark.parametrize(
    ("backend", "provider", "uses"),
    [
        ("onnxruntime", None, False),
        ("onnxruntime", "CPUExecutionProvider", False),
        ("auto", "CUDAExecutionProvider", True),
        ("tensorrt", None, True),
    ],
)
def test_only_runs_on_gpus_count_gpus(
    monkeypatch: pytest.MonkeyPatch, backend: str, provider: str | None, uses: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert uses_gpus(backend, provider) == uses
    assert worker_count(backend, provider) == (3 if uses else None)


def test_every_worker_gets_a_gpu_and_its_share_of_processors() -> None:
    pool = Pool(("A", "B"), 2, tuple(range(8)))
    assert pool.take("gw0") == {gpus.GPU: "A", gpus.CPUS: [0, 1, 2, 3]}
    assert pool.take("gw1") == {gpus.GPU: "B", gpus.CPUS: [4, 5, 6, 7]}


def test_a_new_worker_gets_the_gpu_of_the_crashed_one() -> None:
    pool = Pool(("A", "B", "C"), 3)
    before = [pool.take(name)[gpus.GPU] for name in ("gw0", "gw1", "gw2")]
    pool.give_back("gw1")
    assert before == ["A", "B", "C"]
    assert pool.take("gw3")[gpus.GPU] == "B"


def test_more_workers_than_gpus_share_them_evenly() -> None:
    pool = Pool(("A", "B"), 4, (0,))
    found = [pool.take(f"gw{number}") for number in range(4)]
    assert [one[gpus.GPU] for one in found] == ["A", "B", "A", "B"]
    assert all(one[gpus.CPUS] == [0] for one in found)


def test_without_gpus_workers_are_told_nothing() -> None:
    assert Pool((), 2, (0, 1)).take("gw0") == {}


def test_shares_are_neighbours_and_cover_everything() -> None:
    assert [list(share(range(7), seat, 3)) for seat in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]


def test_settling_hides_other_gpus_and_binds_to_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[Any] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda *a: bound.append(a), raising=False)
    environment = {"OMP_NUM_THREADS": "1"}
    settle({gpus.GPU: "GPU-bb", gpus.CPUS: [4, 5]}, environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-bb"
    assert (environment["OMP_NUM_THREADS"], environment["OPENBLAS_NUM_THREADS"]) == ("1", "2")
    assert bound == [(0, [4, 5])]
    settle({}, environment)
    assert len(bound) == 1


def test_sessions_have_no_more_threads_than_the_process_has_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3}, raising=False)
    assert ort_session.SessionSettings().options().intra_op_num_threads == 2
    assert ort_session.SessionSettings(intra_op_threads=5).options().intra_op_num_threads == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert ort_session.SessionSettings().options().intra_op_num_threads == 0


class Node:
    """A worker that notes which tests it is sent."""

    def __init__(self, name: str) -> None:
        self.gateway, self.workerinput = SimpleNamespace(id=name), {}
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def scheduler(
    counts: dict[str, int],
    nodes: int,
    models: dict[str, str] | None = None,
    seconds: dict[str, float] | None = None,
) -> tuple[Any, list[Node], list[str]]:
    """A scheduler that has `counts` tests of each engine, and its workers."""
    tests = [f"t::{name}[{number}]" for number in range(max(counts.values())) for name in counts]
    tests = [one for one in tests if int(one.split("[")[1][:-1]) < counts[one[3]]]
    config: Any = SimpleNamespace(getvalue=lambda _: ["popen"] * nodes)
    found = EngineScheduling(config, None, lambda nodeid: nodeid[3], models, seconds)
    workers = [Node(f"gw{number}") for number in range(nodes)]
    for worker in workers:
        found.add_node(worker)
        found.add_node_collection(worker, tests)
    found.schedule()
    return found, workers, tests


def finish(found: Any, workers: list[Node], tests: list[str]) -> dict[str, list[str]]:
    """Every worker runs what it was sent, a test each in turn; who ran what."""
    ran: dict[str, list[str]] = {worker.gateway.id: [] for worker in workers}
    while any(worker.sent for worker in workers):
        stuck = True
        for worker in workers:
            if len(worker.sent) > 1 or (worker.sent and worker.shutting_down):
                index = worker.sent.pop(0)
                ran[worker.gateway.id].append(tests[index])
                found.mark_test_complete(worker, index)
                stuck = False
        assert not stuck, "a worker waits for a next test that never comes"
    return ran


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("counts", [{"A": 3, "B": 1, "C": 4, "D": 2}, dict.fromkeys("ABCDE", 1), {"A": 5}])
def test_all_tests_of_an_engine_run_on_one_worker_and_every_test_runs_once(
    nodes: int, counts: dict[str, int]
) -> None:
    found, workers, tests = scheduler(counts, nodes)
    ran = finish(found, workers, tests)
    assert sorted(one for tests_ in ran.values() for one in tests_) == sorted(tests)
    for name in counts:
        assert sum(any(one[3] == name for one in tests_) for tests_ in ran.values()) == 1


def test_no_worker_takes_two_engines_while_another_has_none() -> None:
    _, workers, _ = scheduler(dict.fromkeys("ABCD", 1), 4)
    assert [len(worker.sent) for worker in workers] == [1, 1, 1, 1]


def test_engines_come_in_the_order_of_need() -> None:
    _, workers, tests = scheduler(dict.fromkeys("ABC", 2), 1, models={"C": "net", "A": "other"})
    assert [tests[index][3] for index in workers[0].sent] == ["C", "C"]


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_crashed_test_is_not_run_again_but_the_rest_of_its_engine_is(done: int) -> None:
    found, workers, tests = scheduler({"A": 3, "B": 3}, 2)
    lost = workers[0]
    for index in lost.sent[:done]:
        found.mark_test_complete(lost, index)
    crashed = found.remove_node(lost)
    assert crashed == tests[lost.sent[done]]
    new = Node("gw9")
    found.add_node(new)
    found.add_node_collection(new, tests)
    found.schedule()
    ran = finish(found, [workers[1], new], tests)
    again = [one for tests_ in ran.values() for one in tests_]
    assert crashed not in again
    assert len(again) == 6 - done - 1


def test_a_worker_stays_with_its_model() -> None:
    models = {"A": "one", "B": "one", "C": "one", "D": "two", "E": "two", "F": "two"}
    found, workers, tests = scheduler(dict.fromkeys("ABCDEF", 2), 2, models)
    ran = finish(found, workers, tests)
    assert [{models[one[3]] for one in tests_} for tests_ in ran.values()] == [{"one"}, {"two"}]


def test_a_worker_without_a_model_takes_one_that_nobody_has() -> None:
    models = {"A": "one", "B": "one", "C": "two", "D": "two", "E": "three", "F": "three"}
    found, workers, tests = scheduler({"A": 1, "B": 9, "C": 9, "D": 9, "E": 1, "F": 1}, 2, models)
    ran = finish(found, workers, tests)
    assert [list(dict.fromkeys(one[3] for one in tests_)) for tests_ in ran.values()] == [
        ["A", "B", "E", "F"],
        ["C", "D"],
    ]


def test_a_worker_that_finds_no_free_model_helps_with_the_one_that_has_most_left() -> None:
    models = {"A": "one", "B": "one", "C": "two", "D": "two", "E": "two", "F": "two"}
    found, workers, tests = scheduler(dict.fromkeys("ABCDEF", 4), 2, models)
    ran = finish(found, workers, tests)
    assert [len(tests_) for tests_ in ran.values()] == [12, 12]


def test_where_known_most_left_is_told_in_seconds() -> None:
    models = {"A": "one", "B": "two", "C": "two", "D": "two", "E": "three", "F": "three"}
    counts = {"A": 1, "B": 4, "C": 4, "D": 4, "E": 4, "F": 4}
    for seconds, helped in (({}, "two"), ({"E": 60.0, "F": 90.0, "C": 1.0, "D": 1.0}, "three")):
        found, workers, tests = scheduler(counts, 3, models, seconds)
        ran = finish(found, workers, tests)
        assert models[ran["gw0"][1][3]] == helped


def cases_of_models(folder: Path, **sizes: int) -> list[Case]:
    """Cases at FP32 and FP16 of models whose files have `sizes` bytes."""
    cases = []
    for name, size in sizes.items():
        (folder / f"{name}.onnx").write_bytes(bytes(size))
        made = made_spec(name=name, model={"onnx": f"{name}.onnx"})
        cases += [Case(made, precision) for precision in (Precision.FP32, Precision.FP16)]
    return cases


def test_models_that_took_longest_come_first_after_those_that_no_run_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cases = cases_of_models(tmp_path, quick=500, slow=100, new=10, newer=20)
    seconds = {"quick-fp32": 3.0, "quick-fp16": 4.0, "slow-fp32": 8.0}
    assert list(dict.fromkeys(models_of(cases, seconds).values())) == ["newer", "new", "slow", "quick"]


def test_how_long_cases_take_is_read_from_the_last_runs(tmp_path: Path) -> None:
    test = "suites/test_outputs.py::test_outputs[net-{}]".format
    runs = {
        "run1": [
            (test("fp16"), 5.0),
            (test("fp32"), 1.0),
            ("suites/test_engines.py::test_engine[net-fp32]", 2.0),
        ],
        "run2": [(test("fp16"), 9.0), ("tests/test_x.py::test_y", 4.0)],
    }
    for name, tests in runs.items():
        outcomes = tuple(results_json.TestOutcome(nodeid, "passed", spent) for nodeid, spent in tests)
        results_json.write(results_json.Results(name, "2026-11-21", tests=outcomes), tmp_path / name)
    (tmp_path / "run3").mkdir()
    (tmp_path / "run3" / "results.json").write_text("{")
    run: Any = SimpleNamespace(
        selection=SimpleNamespace(ids=frozenset(["net-fp16", "net-fp32"])),
        collector=SimpleNamespace(folder=tmp_path / "run4"),
    )
    assert Parallel(run, 2).seconds() == {"net-fp16": 9.0, "net-fp32": 3.0}
    run.collector = None
    assert Parallel(run, 2).seconds() == {}


def test_the_largest_models_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a spec without a file looks for its model here
    cases = cases_of_models(tmp_path, a_small_one=10, large=1000)
    assert list(models_of(cases).items()) == [
        ("large-fp32", "large"),
        ("large-fp16", "large"),
        ("a_small_one-fp32", "a_small_one"),
        ("a_small_one-fp16", "a_small_one"),
    ]


def test_tests_are_grouped_by_case_others_by_file() -> None:
    run: Any = SimpleNamespace(options=Options(), selection=SimpleNamespace(ids=frozenset(["net-fp16"])))
    group = Parallel(run, 2).group
    assert group("suites/test_outputs.py::test_outputs[net-fp16]") == "net-fp16"
    assert group("suites/test_latency.py::test_latency[net-fp16:default-b1]") == "net-fp16"
    assert group("suites/test_x.py::test_y") == "suites/test_x.py"


def test_a_report_has_cases_in_the_order_of_the_run_whichever_worker_came_first(tmp_path: Path) -> None:
    cases = tuple(
        Case(made_spec(name=name), precision) for name in ("z", "a") for precision in list(Precision)[:2]
    )
    run = Run(Options(report_dir=tmp_path), (), tmp_path / "xfails.txt", True)
    run.__dict__["selection"] = Selection(cases, frozenset(case.id for case in cases))
    collector = run.start_report(tmp_path)
    for case in reversed(cases):
        collector.begin(f"suites/test_engines.py::test_engine[{case.id}]")
        collector.add(f"suites/test_engines.py::test_engine[{case.id}]", Phase("passed"))
        collector.end(f"suites/test_engines.py::test_engine[{case.id}]")
    run.finish_report(0, complete=True)
    found = results_json.read(collector.folder)
    assert [f"{record.model}-{record.precision}" for record in found.records] == [case.id for case in cases]


def test_another_way_of_sharing_is_left_to_xdist() -> None:
    run: Any = SimpleNamespace(options=Options(), selection=SimpleNamespace(ids=frozenset(), cases=()))
    config = SimpleNamespace(getvalue=lambda _: "worksteal")
    assert Parallel(run, 2).pytest_xdist_make_scheduler(config, None) is None


def test_workers_are_told_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "gpu_names", lambda: ("A", "B"))
    run: Any = SimpleNamespace(options=Options(provider="CUDAExecutionProvider"))
    found = Parallel(run, 2)
    nodes = [Node("gw0"), Node("gw1"), Node("gw2")]
    for node in nodes[:2]:
        found.pytest_configure_node(node)
    found.pytest_testnodedown(nodes[0])
    found.pytest_configure_node(nodes[2])
    assert [node.workerinput[gpus.GPU] for node in nodes] == ["A", "B", "A"]


WHO = """
import json, os, pathlib
def test_engine(case):
    seen = {"case": case.id, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "worker": os.environ.get("PYTEST_XDIST_WORKER")}
    with pathlib.Path("seen.jsonl").open("a") as file:
        file.write(json.dumps(seen) + chr(10))
"""
LOSE = """
from harness.errors import DeviceLostError
def test_engine(case):
    if case.precision == "fp32":
        raise DeviceLostError("CUDA failure 700: an illegal memory access was encountered")
"""


@pytest.fixture(name="project")
def _project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    fake_smi(pytester.path, monkeypatch)
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(pytester.path / "cache"))
    write_project(pytester.path, precisions=("fp32", "fp16", "bf16"))
    return pytester


@pytest.mark.slow
def test_n_auto_gives_every_worker_a_gpu_of_its_own(project: pytest.Pytester) -> None:
    (project.path / "suites" / "test_engines.py").write_text(WHO)
    project.makefile(".toml", pytest='[pytest]\naddopts = ["--import-mode=importlib"]\n')
    told = ("--trt-provider=CUDAExecutionProvider", "-nauto")
    project.runpytest_subprocess("suites", *told).assert_outcomes(passed=3)
    seen = [json.loads(line) for line in (project.path / "seen.jsonl").read_text().splitlines()]
    pairs = {(one["worker"], one["gpu"]) for one in seen}
    assert pairs <= {("gw0", "GPU-aa"), ("gw1", "GPU-bb")}
    assert len(seen) == 3


@pytest.mark.slow
def test_a_lost_device_costs_its_own_case_and_the_worker_is_replaced(project: pytest.Pytester) -> None:
    (project.path / "suites" / "test_engines.py").write_text(LOSE)
    done = project.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-n1")
    (run,) = (project.path / "reports").iterdir()
    found = results_json.read(run)
    told = {record.precision: (record.verdict, record.message) for record in found.records}
    assert [told[precision][0] for precision in ("fp32", "fp16", "bf16")] == ["error", "pass", "pass"]
    assert "illegal memory access" in told["fp32"][1]
    assert [test.outcome for test in found.tests if "fp32" not in test.nodeid] == ["passed", "passed"]
    done.stdout.fnmatch_lines(["*replacing crashed worker gw0*"])


@pytest.mark.slow
def test_a_backend_that_is_not_there_is_one_line_in_workers_too(project: pytest.Pytester) -> None:
    write_project(project.path, "outputs", precisions=("fp32", "fp16"))
    done = project.runpytest_subprocess("suites", "--trt-provider=NopeExecutionProvider", "-n2")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stdout.fnmatch_lines(["BackendUnavailableError: onnxruntime: *has no NopeExecutionProvider*"])
    done.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.slow
def test_a_driver_that_is_stuck_is_one_line_before_any_worker_starts(project: pytest.Pytester) -> None:
    (project.path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    project.makeconftest("import harness.gpus\nharness.gpus.SMI_S = 0.2\n")
    done = project.runpytest_subprocess("suites", "--trt-provider=CUDAExecutionProvider", "-n2")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: nvidia-smi did not answer within 0.2 s: *"])


@pytest.mark.slow
def test_latency_is_refused_in_workers(project: pytest.Pytester) -> None:
    write_project(project.path, "latency", precisions=("fp32",))
    done = project.runpytest_subprocess("suites", "--trt-backend=onnxruntime", "-n1", "-rs")
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*not measured under xdist*"])
