"""The mutator changes what decides and nothing else; what is listed as reviewed is a mutant that there is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.__main__ import MODULES, reviewed
from tests.mutants.mutate import mutants
from tests.mutants.trial import Planted

ROOT = Path(__file__).resolve().parents[2]
SOURCE = '''
"""Text with 1 < 2."""
LIMIT: int | None = 3

def judge(a: float = 0.0, *, most: int = 5) -> bool:
    """No 4 here."""
    if a < LIMIT and not most:
        return max(a, 1.5, key=abs) > 2 or a is None
    return "1" + "2" if True else f"{a}"
'''


def keys(source: str) -> list[str]:
    return [one.key for one in mutants(source)]


def test_every_kind_of_decision_is_changed_and_no_text() -> None:
    found = keys(SOURCE)
    for expected in (
        "module: 3 -> 4",
        "judge: 0.0 -> 1.0",
        "judge: 5 -> 6",
        "judge: a < LIMIT -> a <= LIMIT",
        "judge: not most -> most",
        "judge: max -> min",
        "judge: max() without key=",
        "judge: 1.5 -> 3.0749999999999997",
        "judge: a is None -> a is not None",
        "judge: True -> False",
    ):
        assert expected in found
    assert not any("Text" in key or "No 4" in key or "'1'" in key.split(" -> ")[0][:4] for key in found)
    assert not any(key.startswith("module: int") for key in found)
    assert len(set(found)) == len(found)


def test_a_mutant_differs_in_one_place_and_is_a_module() -> None:
    whole = ast.unparse(ast.parse(SOURCE))
    for one in mutants(SOURCE):
        lines = zip(ast.unparse(ast.parse(one.source)).splitlines(), whole.splitlines(), strict=True)
        assert sum(new != old for new, old in lines) == 1, one.key


def test_equal_changes_in_one_function_are_numbered() -> None:
    assert keys("x = 1\ny = 1\n") == ["module: 1 -> 2", "module: 1 -> 2 #2"]


@pytest.mark.parametrize("module", MODULES)
def test_the_modules_and_their_tests_are_there(module: str) -> None:
    assert (ROOT / module).is_file()
    assert [test for test in MODULES[module] if not (ROOT / test).is_file()] == []


def test_a_reviewed_mutant_is_of_a_module_that_decides_and_has_a_reason() -> None:
    assert [key for key, why in reviewed().items() if key.partition(": ")[0] not in MODULES or not why] == []


def test_a_planted_module_is_the_mutant() -> None:
    planted = Planted("some.module", ROOT / "nowhere.py", "LIMIT = 7\n")
    spec = planted.find_spec("some.module")
    assert spec is not None
    assert planted.find_spec("some.other") is None
    space: dict[str, int] = {}
    code = planted.get_code("some.module")
    assert code is not None
    exec(code, space)
    assert space["LIMIT"] == 7
