"""Which worker gets which engine, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.plugin.xdist_groups import EngineScheduling
from tests.helpers.workers import Node


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
