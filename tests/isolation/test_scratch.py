"""Temporary folders: those of killed processes go at the next start, those of living ones stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import paths
from harness.paths import LOCK, PREFIX, scratch, sweep

HOLDS = """
import sys, time
from harness.paths import scratch
with scratch(sys.argv[1]) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _nothing_swept_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "YOUNG_S", -1.0)
    sweep.cache_clear()


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    (killed, left), (alive, used) = holder(tmp_path), holder(tmp_path)
    try:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert left.is_dir()
        with scratch(tmp_path) as own:
            assert (left.exists(), used.is_dir(), own.is_dir()) == (False, True, True)
        assert not own.exists()
    finally:
        for process in (killed, alive):
            process.kill()
            process.communicate()


def test_what_was_never_locked_or_is_a_link_or_young_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{PREFIX}other").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / LOCK).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "own")
    assert sweep(str(tmp_path)) == 0
    (tmp_path / f"{PREFIX}other" / LOCK).touch()
    monkeypatch.setattr(paths, "YOUNG_S", 60.0)
    sweep.cache_clear()
    assert sweep(str(tmp_path)) == 0
    os.utime(tmp_path / f"{PREFIX}other", (time.time() - 100,) * 2)
    sweep.cache_clear()
    assert sweep(str(tmp_path)) == 1
    assert (tmp_path / "own").is_dir()
