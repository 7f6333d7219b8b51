"""Killed (-9) at 50 seeded points: nothing half done is used, what was done is kept, the next run works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import scenes

ROOT = Path(__file__).resolve().parents[2]
POINTS = 10


@pytest.mark.slow
@pytest.mark.parametrize("scene", scenes.SCENES)
def test_a_killed_run_leaves_nothing_half_done(tmp_path: Path, scene: str) -> None:
    command = [sys.executable, "-m", "tests.faults", scene, "1", str(POINTS), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    found = re.search(r"killed (\d+) of", done.stdout)
    assert found
    assert int(found[1]) >= POINTS // 2, "points in time may come after the end, counted changes may not"


def test_a_half_fetched_file_is_seen(tmp_path: Path) -> None:
    path = scenes.stored_path(scenes.MEMBERS[0], tmp_path / "assets")
    path.parent.mkdir(parents=True)
    path.write_bytes(scenes.CONTENT[:1000])
    with pytest.raises(AssertionError):
        scenes.SCENES["fetch"].hold(tmp_path)


def test_a_half_written_entry_is_seen(tmp_path: Path) -> None:
    scenes.SCENES["cache"].play(tmp_path)
    next((tmp_path / "cache").rglob("0.bin")).write_bytes(b"")
    with pytest.raises(AssertionError, match="does not verify"):
        scenes.SCENES["cache"].hold(tmp_path)


def test_a_lost_test_is_seen(tmp_path: Path) -> None:
    scenes.SCENES["report"].play(tmp_path)
    with (tmp_path / "finished").open("a") as file:
        file.write("0 suites/test_outputs.py::lost\n")
    with pytest.raises(AssertionError):
        scenes.SCENES["report"].hold(tmp_path)
