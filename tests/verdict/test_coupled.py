"""Models that relate the samples of a batch are known by their shapes, and the exception is proposed."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.spec.model_spec import ModelSpec
from harness.verdict.metamorphic import OF_ROWS, check
from tests.verdict.test_metamorphic import right, spec, trial


def scores(x: NDArray[Any], _: Any) -> NDArray[Any]:
    """Each sample against each other, as an image and text model scores its batch."""
    made = right(x)
    return made @ made.T


def wrong(x: NDArray[Any], _: Any) -> NDArray[Any]:
    made = right(x)
    return np.roll(made, 1, 0) if len(made) > 4 else made


@pytest.mark.parametrize("name", ["batch-rows", "permutation"])
@pytest.mark.parametrize("sizes", [(1, 4, 16), (2, 3, 4), (1, 5, 5)])
def test_the_exception_is_proposed_ready_to_paste(name: str, sizes: tuple[int, int, int]) -> None:
    low, opt, high = sizes
    found = check(name, trial(scores, made=spec([low, 8, 6], [opt, 8, 6], [high, 8, 6])))
    if found.reason:
        pytest.skip(found.reason)
    assert not found.holds
    said = found.explain("m[fp32]", "pytest x")
    assert "output 'y' grows with the batch along axes 0 and 1" in said
    line = next(line for line in said.splitlines() if "exceptions = " in line)
    parsed = tomllib.loads(line[line.index("exceptions = ") :])["exceptions"]
    assert {one["property"] for one in parsed} == OF_ROWS
    whole = {**spec([1, 2, 6], [4, 8, 6], [16, 32, 6]).model_dump(), "exceptions": parsed}
    assert len(ModelSpec.model_validate(whole).exceptions) == len(OF_ROWS)


def test_a_wrong_engine_is_not_taken_for_such_a_model() -> None:
    found = check("batch-rows", trial(wrong))
    assert not found.holds
    assert not found.coupled
    assert "grows with the batch" not in found.explain("m[fp32]", "pytest x")
