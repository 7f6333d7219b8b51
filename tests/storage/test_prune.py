"""`trt-harness prune` removes what was not used for long, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import pytest

from harness.cli import main
from harness.storage.cache import Cache, Entry
from harness.storage.files import SEAL
from harness.storage.prune import DAY_S, items, remove


def made(folder: Path) -> Mapping[str, Any]:
    (folder / "engine.bin").write_bytes(bytes(1000))
    return {}


def aged(entry: Entry, days: float) -> Path:
    """The entry's folder, as if last used `days` ago."""
    then = time.time() - days * DAY_S
    os.utime(entry.folder / SEAL, (then, then))
    return entry.folder


@pytest.fixture(name="cache")
def _cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def entry(cache: Cache, number: int, kind: str = "engine") -> Entry:
    return cache.get_or_make(kind, {"number": number}, made, label="net")


def prune(cache: Cache, *arguments: str) -> int:
    return main(["prune", "--cache-dir", str(cache.folder), *arguments])


def test_what_was_used_lately_stays(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    old, young = aged(entry(cache, 1), 31), aged(entry(cache, 2), 29)
    assert prune(cache) == 0
    assert (old.exists(), young.exists()) == (False, True)
    assert not old.with_name(f"{old.name}.lock").exists()
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("engine: 1 (0.0 MB) removed, 1 (0.0 MB) kept")
    assert last == f"{cache.folder}: 1 (0.0 MB) removed"


def test_a_hit_is_a_use(cache: Cache) -> None:
    folder = aged(entry(cache, 1), 40)
    assert entry(cache, 1).hit
    prune(cache)
    assert folder.is_dir()


def test_an_entry_that_went_is_made_again(cache: Cache) -> None:
    aged(entry(cache, 1), 40)
    prune(cache)
    assert not entry(cache, 1).hit
    assert entry(cache, 1).hit


def test_a_dry_run_removes_nothing(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    folder = aged(entry(cache, 1), 40)
    assert prune(cache, "--dry-run") == 0
    assert folder.is_dir()
    assert "engine: 1 (0.0 MB) would be removed" in capsys.readouterr().out


def test_zero_days_remove_all_kinds(cache: Cache) -> None:
    folders = [entry(cache, 1).folder, entry(cache, 2, "outputs").folder]
    prune(cache, "--unused-days=0")
    assert not any(folder.exists() for folder in folders)


def test_an_entry_that_is_being_made_stays(cache: Cache) -> None:
    folder = aged(entry(cache, 1), 40)
    with filelock.FileLock(folder.with_name(f"{folder.name}.lock")):
        prune(cache)
    assert folder.is_dir()


def test_an_entry_used_since_it_was_looked_at_stays(cache: Cache) -> None:
    folder = aged(entry(cache, 1), 40)
    (item,) = items(cache.folder)
    entry(cache, 1)
    assert not remove(item)
    assert folder.is_dir()


def test_leftovers_of_a_killed_process_go(cache: Cache) -> None:
    folder = entry(cache, 1).folder
    left = folder.with_name(f".{folder.name}-0123456789abcdef")
    left.mkdir()
    (left / "half.bin").write_bytes(b"half")
    then = time.time() - 40 * DAY_S
    os.utime(left, (then, then))
    prune(cache)
    assert (left.exists(), folder.exists()) == (False, True)


def test_what_is_not_the_caches_stays(cache: Cache, tmp_path: Path) -> None:
    asset, other = cache.folder / "assets" / ("a" * 64), cache.folder / "mine" / "notes"
    outside = aged(entry(Cache(tmp_path / "other"), 1), 40)
    for folder in (asset, other):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"kept")
    (cache.folder / "engine").mkdir()
    (cache.folder / "engine" / outside.name).symlink_to(outside)
    prune(cache, "--unused-days=0")
    assert all(folder.is_dir() for folder in (asset, other, outside))


@pytest.mark.parametrize("days", ["-1", "nan", "soon", "inf"])
def test_a_number_of_days_that_is_none_is_told(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["prune", f"--unused-days={days}"])
    assert ended.value.code == 4
    assert f"--unused-days: '{days}': must be days >= 0" in capsys.readouterr().err


def test_a_cache_that_is_not_there_has_nothing_to_remove(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", "--cache-dir", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'none'}: 0 (0.0 MB) removed\n"
