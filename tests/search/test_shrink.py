"""The search for FP32 nodes, on evaluators whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.search.result import Budget, Kept, Ranked, Step, rank
from harness.search.shrink import HANDFUL, LONG, SMALL, quick_xplain, search

TOLERANCE = 1.0


@dataclass
class Wants:
    """Passes where one of `sets` is kept; otherwise fails with `failure`."""

    candidates: tuple[str, ...]
    sets: tuple[Kept, ...]
    failure: float = 2.0
    tolerance: float = TOLERANCE
    asked: list[Kept] = field(default_factory=list)

    def __call__(self, kept: Kept) -> float:
        self.asked.append(kept)
        return 0.5 if any(wanted <= kept for wanted in self.sets) else self.failure


def names(count: int) -> tuple[str, ...]:
    return tuple(f"n{k}" for k in range(count))


def wants(count: int, *sets: Iterable[int], failure: float = 2.0) -> Wants:
    return Wants(names(count), tuple(frozenset(f"n{k}" for k in s) for s in sets), failure)


def in_order(evaluator: Wants, certain: int = 0) -> Ranked:
    return Ranked(evaluator.candidates, certain)


def evaluation_bound(count: int, found: int) -> int:
    """Nothing kept, galloping and halving, then the dearer of node by node and QuickXplain."""
    prefix = 2 * math.ceil(math.log2(count + 1)) + 2
    return 1 + prefix + max(HANDFUL, 2 * found + 2 * found * math.ceil(math.log2(max(SMALL, count)))) + 1


@st.composite
def problems(draw: st.DrawFn) -> tuple[Wants, Ranked]:
    count = draw(st.integers(1, 60))
    nodes = st.integers(0, count - 1)
    sets = draw(st.lists(st.frozensets(nodes, max_size=6), min_size=1, max_size=3))
    failure = draw(st.sampled_from([2.0, math.inf, math.nan]))
    order = draw(st.permutations(names(count)))
    return wants(count, *sets, failure=failure), Ranked(tuple(order), draw(st.integers(0, count)))


@settings(deadline=None)
@given(problems())
def test_the_answer_passes_and_is_minimal_or_diffuse(problem: tuple[Wants, Ranked]) -> None:
    evaluator, ranked = problem
    found = search(evaluator, lambda: ranked)
    kept = frozenset(found.nodes)
    assert found.passed
    assert evaluator(kept) <= TOLERANCE
    assert found.after == 0.5
    assert found.minimal != found.diffuse
    if found.minimal:
        assert all(evaluator(kept - {node}) != 0.5 for node in kept)
        assert found.evaluations <= evaluation_bound(len(evaluator.candidates), len(kept))
        assert found.proof_evaluations <= len(kept)
    else:
        assert len(kept) > SMALL


@given(problems())
@settings(deadline=None)
def test_no_set_is_evaluated_twice(problem: tuple[Wants, Ranked]) -> None:
    evaluator, ranked = problem
    found = search(evaluator, lambda: ranked)
    assert len(set(evaluator.asked)) == len(evaluator.asked)
    assert found.evaluations + found.proof_evaluations == len(evaluator.asked)


@given(st.dictionaries(st.frozensets(st.sampled_from(names(5))), st.floats(0, 2)), st.floats(0, 2))
@settings(deadline=None)
def test_without_monotony_what_is_reported_is_true(table: dict[Kept, float], default: float) -> None:
    class Arbitrary:
        candidates = names(5)
        tolerance = TOLERANCE

        def __call__(self, kept: Kept) -> float:
            return table.get(kept, default)

    evaluator = Arbitrary()
    found = search(evaluator, lambda: Ranked(evaluator.candidates))
    if found.passed:
        assert found.after == evaluator(frozenset(found.nodes)) <= TOLERANCE
    else:
        assert found.unreachable
    if found.minimal:
        kept = frozenset(found.nodes)
        assert all(evaluator(kept - {node}) > TOLERANCE for node in kept)


def test_nothing_needs_to_be_kept() -> None:
    evaluator = wants(9, [])
    found = search(evaluator, lambda: pytest.fail("no ranking is needed"))
    assert (found.nodes, found.passed, found.minimal, found.evaluations) == ((), True, True, 1)


def test_nodes_come_in_graph_order() -> None:
    evaluator = wants(20, [3, 11, 7])
    found = search(evaluator, lambda: Ranked(evaluator.candidates[::-1]))
    assert found.nodes == ("n3", "n7", "n11")


def test_a_chain_that_overflows_takes_few_evaluations() -> None:
    evaluator = wants(103, [0, 1, 3, 4, 5], failure=math.inf)
    found = search(evaluator, lambda: in_order(evaluator, certain=6))
    assert found.nodes == ("n0", "n1", "n3", "n4", "n5")
    assert found.evaluations <= 8


def test_a_needle_far_down_the_ranking() -> None:
    evaluator = wants(1000, [20])
    found = search(evaluator, lambda: in_order(evaluator))
    assert found.nodes == ("n20",)
    assert found.evaluations <= 20


def test_a_small_set_behind_many_false_suspects_is_found() -> None:
    evaluator = wants(100, [1, 40, 90])
    found = search(evaluator, lambda: in_order(evaluator))
    assert found.nodes == ("n1", "n40", "n90")
    assert found.minimal
    assert not found.diffuse


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 70), min_size=1, max_size=60))
def test_what_is_called_diffuse_has_no_small_answer_that_was_seen(needed: set[int]) -> None:
    evaluator = wants(100, [*needed, 71])
    found = search(evaluator, lambda: in_order(evaluator))
    assert found.passed
    assert found.diffuse == (len(found.nodes) > SMALL)
    assert found.minimal == (not found.diffuse)
    assert found.evaluations <= 2 * math.ceil(math.log2(100)) + 3 + 2 * LONG


@pytest.mark.parametrize("step", [3, 4, 5, 7])
def test_a_set_of_two_dozen_nodes_behind_false_suspects_is_found(step: int) -> None:
    evaluator = wants(100, range(0, 72, step))
    found = search(evaluator, lambda: in_order(evaluator))
    assert found.nodes == names(72)[::step]
    assert not found.diffuse


def test_a_long_set_costs_a_bounded_number_of_evaluations() -> None:
    evaluator = wants(400, range(0, 400, 2))
    found = search(evaluator, lambda: in_order(evaluator))
    assert found.diffuse
    assert found.evaluations <= 2 * math.ceil(math.log2(400)) + 3 + LONG


def test_diffuse_error_gives_the_curve() -> None:
    evaluator = wants(100, range(70))
    found = search(evaluator, lambda: in_order(evaluator))
    assert found.diffuse
    assert not found.minimal
    assert len(found.nodes) == 70
    assert [point.kept for point in found.curve] == sorted(point.kept for point in found.curve)
    assert found.curve[0].kept == 0
    assert {point.kept: point.mre for point in found.curve}[70] == 0.5
    assert {point.kept: point.mre for point in found.curve}[69] == 2.0


def test_a_tolerance_that_no_set_reaches() -> None:
    found = search(wants(10), lambda: Ranked(names(10)))
    assert found.unreachable
    assert not found.passed
    assert found.nodes == ()


def test_no_candidates_at_all() -> None:
    found = search(wants(0), lambda: Ranked(()))
    assert found.unreachable


def test_nan_never_passes() -> None:
    found = search(wants(4, [1], failure=math.nan), lambda: Ranked(names(4)))
    assert found.before == math.inf
    assert found.nodes == ("n1",)


@pytest.mark.parametrize("allowed", range(12))
def test_a_spent_budget_keeps_the_best_so_far(allowed: int) -> None:
    evaluator = wants(40, [2, 5, 9])
    found = search(evaluator, lambda: in_order(evaluator), budget=Budget(evaluations=allowed))
    assert len(evaluator.asked) <= allowed
    assert found.interrupted == f"its {allowed} evaluations are used"
    assert not found.minimal
    if found.passed:
        assert evaluator(frozenset(found.nodes)) <= TOLERANCE
    assert found.before == (2.0 if allowed else None)


def test_a_budget_of_seconds() -> None:
    found = search(wants(4, [1]), lambda: Ranked(names(4)), budget=Budget(seconds=0))
    assert found.interrupted == "its 0 s are over"


class Interrupted(Wants):
    """Ctrl-C at evaluation `stop`."""

    stop = 5

    def __call__(self, kept: Kept) -> float:
        if len(self.asked) == self.stop:
            raise KeyboardInterrupt
        return super().__call__(kept)


def test_ctrl_c_keeps_what_was_found_and_the_search_continues_from_it() -> None:
    whole = wants(40, [2, 5, 9])
    expected = search(whole, lambda: in_order(whole))
    known: dict[Kept, float] = {}
    stopped = Interrupted(whole.candidates, whole.sets)

    def remember(step: Step) -> None:
        known[step.nodes] = step.mre

    first = search(stopped, lambda: in_order(whole), progress=remember)
    assert first.interrupted == "stopped by the user"
    assert first.evaluations == Interrupted.stop
    rest = wants(40, [2, 5, 9])
    second = search(rest, lambda: in_order(rest), known=known)
    assert second.nodes == expected.nodes
    assert len(stopped.asked) + len(rest.asked) == len(whole.asked)
    assert not second.interrupted


def test_progress_tells_each_new_evaluation() -> None:
    steps: list[Step] = []
    found = search(wants(30, [4]), lambda: Ranked(names(30)), progress=steps.append)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert len(steps) == found.evaluations + found.proof_evaluations
    assert steps[0].stage == "nothing kept"
    assert steps[0].kept == 0


def test_ranking_puts_overflow_first_and_the_unscored_last() -> None:
    scores = {"a": 0.1, "b": math.inf, "d": 0.3, "e": 0.1}
    assert rank(scores, ["a", "b", "c", "d", "e"]) == Ranked(("b", "d", "a", "e", "c"), 1)


@settings(deadline=None)
@given(st.frozensets(st.integers(0, 31), max_size=8), st.integers(1, 32))
def test_quick_xplain_finds_a_smallest_set(wanted: frozenset[int], count: int) -> None:
    target = frozenset(f"n{k}" for k in wanted if k < count)
    assert frozenset(quick_xplain(lambda kept: target <= kept, [], names(count))) == target


def test_the_oracle_sees_a_set_that_is_not_minimal() -> None:
    evaluator = wants(5, [1])
    kept = frozenset({"n1", "n2"})
    assert not all(evaluator(kept - {node}) > TOLERANCE for node in kept)
