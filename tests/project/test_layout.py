"""The house: rooms of a size, tests beside their rooms, and a linter that an upward import does not pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "harness"
PLANTED = {
    "an upward import": ("graph/walk.py", "import harness.verdict.triage"),
    "a neighbour": ("tasks/accuracy.py", "import harness.verdict.triage"),
    "a circle between files": ("comparison/metrics.py", "import harness.comparison.compare"),
    "a runtime": ("verdict/triage.py", "import onnxruntime"),
    "pytest": ("report/write.py", "import pytest"),
}


def rooms() -> list[Path]:
    """Every package of the house."""
    return [path.parent for path in HOUSE.rglob("__init__.py") if path.parent != HOUSE]


def test_the_house_has_few_files_at_its_door_and_no_crowded_room() -> None:
    assert len(list(HOUSE.glob("*.py"))) <= 9
    assert len([room for room in rooms() if room.parent == HOUSE]) <= 26
    assert {room.name: n for room in rooms() if (n := len(list(room.glob("*.py")))) > 20} == {}


def test_every_room_says_what_it_is_for() -> None:
    assert [room for room in rooms() if not (room / "__init__.py").read_text().startswith('"""')] == []


def test_no_name_repeats_its_room() -> None:
    repeats = [
        file.relative_to(HOUSE)
        for room in rooms()
        for file in room.glob("*.py")
        if file.stem == room.name or file.stem.startswith(f"{room.name}_")
    ]
    assert repeats == []


def test_tests_stand_in_the_rooms_of_the_house_and_are_short() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    own = {Path(name) for name in (".", "conformance", "faults", "fuzz", "mutants", "project", "suites")}
    assert [folder for folder in folders - own if not (HOUSE / folder / "__init__.py").is_file()] == []
    long = [path for path in (ROOT / "tests").rglob("*.py") if len(path.read_text().splitlines()) > 400]
    assert long == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_the_linter_finds_what_is_planted(name: str, tmp_path: Path) -> None:
    for folder in ("harness", "fixtures"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file, line = PLANTED[name]
    path = tmp_path / "harness" / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
    assert line.rpartition(".")[2].removeprefix("import ") in done.stdout
