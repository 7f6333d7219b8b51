"""One flipped bit anywhere in the cache is found, the entry is made again, and the reason is told."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.engines import trial
from harness.storage.cache import Cache, Entry
from harness.storage.files import MANIFEST, SEAL
from tests.faults.subject import PRECISIONS, made_subject, use

FLIPS = 1000
NOT_ENTRIES = (".lock", ".last")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with everything that a run of a model at FP16 and INT8 leaves."""
    folder = tmp_path_factory.mktemp("flips")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "isolated", lambda function, *args, **_: function(*args))
        use(made_subject(folder / "model", folder / "cache"))
    return folder / "cache"


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def remade(cache: Path, pristine: Path, entry: Path) -> Entry:
    """The entry asked for again, whose maker copies what it was."""
    manifest = json.loads((pristine / MANIFEST).read_bytes())

    def make(folder: Path) -> Mapping[str, Any]:
        for name in manifest["files"]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pristine / name, folder / name)
        data: Mapping[str, Any] = manifest["data"]
        return data

    return Cache(cache).get_or_make(entry.parent.name, manifest["key"], make)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_cache_holds_what_can_be_damaged(filled: Path) -> None:
    kinds = {path.name for path in filled.iterdir()}
    assert kinds >= {"engine", "outputs", "floor", "trial"}
    assert any("calib" in kind or "scale" in kind or "range" in kind for kind in kinds)


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_all_found_made_again_and_told(filled: Path, tmp_path: Path) -> None:
    cache, rng = tmp_path / "cache", random.Random(7)
    shutil.copytree(filled, cache)
    every = [p for p in sorted(cache.rglob("*")) if p.is_file() and p.suffix not in NOT_ENTRIES]
    files = [p for p in every if p.stat().st_size]
    hurt: Counter[str] = Counter()
    for _ in range(FLIPS):
        victim = rng.choice(files)
        entry = next(p for p in victim.parents if p.parent.parent == cache)
        pristine = filled / entry.relative_to(cache)
        flip(victim, rng.randrange(victim.stat().st_size * 8))
        found = remade(cache, pristine, entry)
        assert not found.hit, victim
        assert found.reason.startswith(("damaged: ", "foreign: ", "stale: ")), found.reason
        assert contents(entry) == contents(pristine)
        assert remade(cache, pristine, entry).hit
        hurt[f"{entry.parent.name} {victim.name if victim.name in (MANIFEST, SEAL) else 'file'}"] += 1
    assert {"engine file", f"engine {MANIFEST}", "outputs file", f"floor {MANIFEST}"} <= hurt.keys()


def test_a_run_over_damaged_entries_answers_as_before(filled: Path, tmp_path: Path) -> None:
    cache, rng = tmp_path / "cache", random.Random(8)
    shutil.copytree(filled, cache)
    model = filled.parent / "model"
    before = use(made_subject(model, cache))
    for entry in sorted(p for p in cache.glob("*/*") if p.is_dir()):
        victim = rng.choice(sorted(p for p in entry.rglob("*") if p.is_file() and p.stat().st_size))
        flip(victim, rng.randrange(victim.stat().st_size * 8))
    assert use(made_subject(model, cache)) == before
    assert {made_subject(model, cache).engine(p).reason for p in PRECISIONS} == {"hit"}
