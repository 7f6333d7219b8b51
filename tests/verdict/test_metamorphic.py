"""Every property holds for a right engine, and a seeded fault that it is meant for breaks it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.data.inputs import Feeds
from harness.engines.variants import same_plan
from harness.loops.properties import PROPERTIES as OF_LOOPS
from harness.precision import Precision
from harness.spec.model_spec import ModelSpec
from harness.spec.parts import Property, PropertyException
from harness.spec.terms import Terms
from harness.verdict.metamorphic import PROPERTIES, Trial, check

Arrays = Mapping[str, NDArray[Any]]
WEIGHTS = np.random.default_rng(0).normal(size=(6, 3)).astype("f4")


def spec(low: list[int], opt: list[int], high: list[int]) -> ModelSpec:
    shapes = {"x": {"min": low, "opt": opt, "max": high}}
    inputs = {"x": {"dtype": "float32", "data": {"generator": "normal"}}}
    made = {
        "name": "double",
        "model": {"onnx": "none.onnx"},
        "inputs": inputs,
        "profiles": [{"shapes": shapes}],
    }
    return ModelSpec.model_validate(made)


def right(x: NDArray[Any]) -> NDArray[Any]:
    """Mean over the length (axis 1) of a projection: batch and length are dynamic."""
    return np.tanh(x @ WEIGHTS).mean(axis=1)


class Double:
    """An engine over a NumPy function; `answer(x, last)` also sees the shape that was run before."""

    inputs = ()
    outputs = ()

    def __init__(self, answer: Callable[[NDArray[Any], tuple[int, ...] | None], NDArray[Any]]) -> None:
        self._answer, self._last = answer, None

    def run(self, feeds: Arrays, profile: int = 0) -> dict[str, NDArray[Any]]:
        x = feeds["x"]
        assert profile == 0
        found = self._answer(x, self._last)
        self._last = x.shape
        return {"y": found}

    def close(self) -> None: ...

    def __enter__(self) -> Double:
        return self

    def __exit__(self, *_: object) -> None: ...


def plain(x: NDArray[Any], _: Any) -> NDArray[Any]:
    return right(x)


def trial(answer: Any = plain, rebuilt: Any = plain, made: ModelSpec | None = None) -> Trial:
    made = made or spec([1, 2, 6], [4, 8, 6], [16, 32, 6])
    return Trial(
        made,
        Terms.of(Precision.FP32),
        Feeds(made),
        0,
        Double(answer),
        lambda: Double(answer),
        lambda: nullcontext(Double(rebuilt)),
        lambda _: nullcontext(Double(plain)),
    )


def test_a_spec_can_name_every_property_and_no_other() -> None:
    assert set(get_args(Property)) == set(PROPERTIES) | set(OF_LOOPS)


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_right_engine_holds(name: str) -> None:
    found = check(name, trial())
    assert found.holds
    assert found.found
    assert found.mre < 1e-6


def wrong_row(x: NDArray[Any], _: Any) -> NDArray[Any]:
    y = right(x)
    if len(y) > 1:
        y[1] = y[0] + 0.01
    return y


def first_row_only(x: NDArray[Any], _: Any) -> NDArray[Any]:
    y = right(x)
    y[1:] *= 1.05
    return y


def coupled_rows(x: NDArray[Any], _: Any) -> NDArray[Any]:
    return right(x - x.mean(axis=0))


def position_dependent(x: NDArray[Any], _: Any) -> NDArray[Any]:
    y = right(x)
    return y + np.arange(len(y), dtype="f4")[:, None] * np.float32(1e-2)


def stale_shape(x: NDArray[Any], last: tuple[int, ...] | None) -> NDArray[Any]:
    """Uses the length of the run before, as a context does whose shape was not set."""
    return right(x[:, : last[1]] if last else x)


def off_by_one_length(x: NDArray[Any], _: Any) -> NDArray[Any]:
    return right(x[:, :-1])


def off_by_one_shape(x: NDArray[Any], _: Any) -> NDArray[Any]:
    return right(x)[:-1] if len(x) > 2 else right(x)


FAULTS = {
    "a wrong row in batches above 1": (wrong_row, "batch-rows"),
    "rows after the first scaled": (first_row_only, "identical-rows"),
    "rows that see each other": (coupled_rows, "batch-rows"),
    "a row's place leaks into it": (position_dependent, "permutation"),
    "a stale context shape": (stale_shape, "context-reuse"),
    "a length off by one": (off_by_one_length, "static"),
    "an output that lost a row": (off_by_one_shape, "static"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_caught_by_its_property(fault: str) -> None:
    answer, name = FAULTS[fault]
    found = check(name, trial(answer))
    assert not found.holds
    text = found.explain("double[fp32]", "pytest suites/test_metamorphic.py")
    assert f"double[fp32] {name}" in text
    assert "pytest suites/test_metamorphic.py" in text


def test_a_model_that_mixes_rows_is_told_how_to_say_so() -> None:
    text = check("batch-rows", trial(coupled_rows)).explain("double[fp32]", "")
    line = next(line for line in text.splitlines() if "mixes rows" in line)
    given = tomllib.loads(line.partition("spec: ")[2])["exceptions"][0]
    assert PropertyException.model_validate(given).property == "batch-rows"


def test_a_second_build_that_differs_is_caught() -> None:
    assert not check("rebuild", trial(rebuilt=lambda x, _: right(x) * 1.001)).holds


def test_a_reload_that_differs_is_caught() -> None:
    calls: list[int] = []

    def forgetful(x: NDArray[Any], _: Any) -> NDArray[Any]:
        calls.append(1)
        return right(x) * np.float32(1 + 0.01 * len(calls))

    assert not check("reload", trial(forgetful)).holds


def test_nan_is_caught() -> None:
    found = check("context-reuse", trial(lambda x, last: right(x) * (1 if last is None else np.nan)))
    assert not found.holds
    assert found.mre == np.inf


def test_agreement_within_rounding_is_told_from_identity() -> None:
    found = check("rebuild", trial(rebuilt=lambda x, _: right(x) * np.float32(1 + 3e-7)))
    assert found.holds
    assert not found.identical


@pytest.mark.parametrize("name", ["identical-rows", "batch-rows", "permutation"])
def test_a_batch_fixed_at_one_is_said_not_passed(name: str) -> None:
    found = check(name, trial(made=spec([1, 2, 6], [1, 8, 6], [1, 32, 6])))
    assert not found.found
    assert found.reason == "its batch size is fixed at 1"


def test_a_static_profile_has_nothing_to_reuse() -> None:
    made = spec([4, 8, 6], [4, 8, 6], [4, 8, 6])
    assert "one shape only" in check("context-reuse", trial(made=made)).reason
    assert check("permutation", trial(made=made)).found


def test_outputs_without_rows_are_said() -> None:
    found = check("batch-rows", trial(lambda *_: np.zeros(3, "f4")))
    assert found.reason == "no output has a batch axis"


def test_two_builds_are_the_same_plan_whatever_is_told_of_them() -> None:
    def built(**files: str) -> Any:
        hashes = {"files": {name.replace("_", "."): digest for name, digest in files.items()}}
        return SimpleNamespace(manifest=SimpleNamespace(hashes=hashes))

    one = built(engine_plan="a", record_json="b")
    assert same_plan(one, built(engine_plan="a", record_json="c"))
    assert not same_plan(one, built(engine_plan="x", record_json="b"))
    assert not same_plan(one, built(engine_plan="a", record_json="b", more_plan="d"))
