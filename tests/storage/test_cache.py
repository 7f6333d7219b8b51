"""The cache gives back what was put in, or makes it again and says why; it never gives back anything else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import CacheError
from harness.storage.cache import Cache, Entry
from harness.storage.files import SEAL, file_digest, write_manifest

KEY = {"model": "abc", "precision": "fp16"}
CONTENT = b"engine bytes " * 100


class Maker:
    """Writes two files and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.calls += 1
        (folder / "engine.bin").write_bytes(CONTENT)
        (folder / "parts").mkdir()
        (folder / "parts" / "a.txt").write_text("part")
        return {"shape": [1, 2], "call": self.calls}


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def entry(cache: Cache, make: Maker) -> Entry:
    return cache.get_or_make("engine", KEY, make)


def test_first_makes_then_hits(cache: Cache, make: Maker) -> None:
    first, second = (cache.get_or_make("engine", KEY, make) for _ in range(2))
    assert (first.hit, first.reason) == (False, "absent")
    assert (second.hit, second.reason) == (True, "hit")
    assert make.calls == 1


def test_a_hit_is_identical(cache: Cache, make: Maker, entry: Entry) -> None:
    hit = Cache(cache.folder).get_or_make("engine", KEY, make)
    assert (hit.folder, hit.manifest, hit.files) == (entry.folder, entry.manifest, entry.files)
    assert (hit.folder / "engine.bin").read_bytes() == CONTENT
    assert (hit.folder / "parts" / "a.txt").read_text() == "part"


def test_what_the_maker_said_comes_back_as_json(entry: Entry) -> None:
    assert entry.manifest == {"shape": [1, 2], "call": 1}


@pytest.mark.parametrize("other", [{"model": "abd"}, {"extra": None}, {"precision": ["fp16"]}])
def test_another_key_is_another_entry(cache: Cache, make: Maker, entry: Entry, other: Any) -> None:
    assert cache.get_or_make("engine", KEY | other, make).folder != entry.folder
    assert make.calls == 2


def test_the_order_of_a_key_does_not_matter(cache: Cache, make: Maker, entry: Entry) -> None:
    assert cache.get_or_make("engine", dict(reversed(KEY.items())), make).folder == entry.folder


def test_another_kind_is_another_entry(cache: Cache, make: Maker, entry: Entry) -> None:
    assert cache.get_or_make("outputs", KEY, make).folder != entry.folder


def test_a_changed_key_under_one_label_says_what_changed(cache: Cache, make: Maker) -> None:
    cache.get_or_make("engine", KEY, make, label="mlp[fp16]")
    changed = cache.get_or_make("engine", KEY | {"model": "new"}, make, label="mlp[fp16]")
    assert changed.reason == "stale: model changed"
    assert cache.get_or_make("engine", KEY | {"model": "x"}, make, label="other").reason == "absent"


def truncate(entry: Entry) -> None:
    with (entry.folder / "engine.bin").open("rb+") as file:
        file.truncate(10)


def flip_a_bit(entry: Entry) -> None:
    data = bytearray(CONTENT)
    data[500] ^= 1
    (entry.folder / "engine.bin").write_bytes(data)


def flip_a_bit_and_hide_it(entry: Entry) -> None:
    path = entry.folder / "engine.bin"
    times = path.stat()
    flip_a_bit(entry)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def remove_a_file(entry: Entry) -> None:
    (entry.folder / "parts" / "a.txt").unlink()


def add_a_file(entry: Entry) -> None:
    (entry.folder / "stranger").write_text("x")


def link_a_file(entry: Entry) -> None:
    path = entry.folder / "engine.bin"
    shutil.copy(path, entry.folder.parent / "elsewhere")
    path.unlink()
    path.symlink_to(entry.folder.parent / "elsewhere")


def link_the_entry(entry: Entry) -> None:
    aside = entry.folder.with_name("aside")
    entry.folder.rename(aside)
    entry.folder.symlink_to(aside)


def remove_the_manifest(entry: Entry) -> None:
    (entry.folder / "manifest.json").unlink()


def cut_the_manifest(entry: Entry) -> None:
    path = entry.folder / "manifest.json"
    path.write_text(path.read_text()[:-20])


def edit_manifest(entry: Entry, **changes: Any) -> None:
    path = entry.folder / "manifest.json"
    write_manifest(entry.folder, json.dumps(json.loads(path.read_text()) | changes).encode())


def edit_what_the_maker_said(entry: Entry) -> None:
    path = entry.folder / "manifest.json"
    path.write_text(path.read_text().replace('"call": 1', '"call": 2'))


def make_it_a_file(entry: Entry) -> None:
    shutil.rmtree(entry.folder)
    entry.folder.write_text("x")


DAMAGE: list[tuple[Callable[[Entry], None], str]] = [
    (truncate, "damaged: 'engine.bin' has 10 bytes, its manifest says 1300"),
    (flip_a_bit, "damaged: 'engine.bin' does not have the SHA-256 of its manifest"),
    (flip_a_bit_and_hide_it, "damaged: 'engine.bin' does not have the SHA-256 of its manifest"),
    (remove_a_file, "damaged: file 'parts/a.txt' is missing"),
    (add_a_file, "damaged: file 'stranger' is unexpected"),
    (link_a_file, "foreign: 'engine.bin' is not a plain file"),
    (link_the_entry, "foreign: a symbolic link in the entry's place"),
    (remove_the_manifest, "damaged: no manifest"),
    (cut_the_manifest, "damaged: its manifest is not JSON"),
    (lambda e: edit_manifest(e, key={"model": "other"}), "foreign: its manifest is of another key"),
    (lambda e: edit_manifest(e, format=0), "stale: cache format 0, this is 2"),
    (lambda e: edit_manifest(e, files=[]), "foreign: its manifest is not one of this cache"),
    (lambda e: edit_manifest(e, files={"engine.bin": 1, "parts/a.txt": 2}), "foreign: its manifest"),
    (lambda e: (e.folder / SEAL).unlink(), "damaged: its manifest has no SHA-256 beside it"),
    (lambda e: (e.folder / SEAL).write_text("0" * 64), "damaged: its manifest does not have the SHA-256"),
    (edit_what_the_maker_said, "damaged: its manifest does not have the SHA-256"),
    (make_it_a_file, "absent"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGE)
def test_what_does_not_verify_is_made_again_and_the_reason_told(
    cache: Cache, make: Maker, entry: Entry, damage: Callable[[Entry], None], reason: str
) -> None:
    damage(entry)
    again = cache.get_or_make("engine", KEY, make)
    assert not again.hit
    assert again.reason.startswith(reason)
    assert (again.folder / "engine.bin").read_bytes() == CONTENT
    assert not again.folder.is_symlink()
    assert cache.get_or_make("engine", KEY, make).hit


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(cache: Cache, make: Maker, position: int, bit: int) -> None:
    made = cache.get_or_make("engine", KEY, make)
    data = bytearray((made.folder / "engine.bin").read_bytes())
    data[position] ^= 1 << bit
    (made.folder / "engine.bin").write_bytes(data)
    assert not cache.get_or_make("engine", KEY, make).hit


def test_a_linked_kind_is_not_followed(cache: Cache, make: Maker, tmp_path: Path) -> None:
    target = tmp_path / "outside"
    target.mkdir()
    cache.folder.mkdir()
    (cache.folder / "engine").symlink_to(target)
    assert not cache.get_or_make("engine", KEY, make).hit
    assert not any(path.is_dir() for path in target.iterdir())


def test_a_failing_maker_leaves_nothing(cache: Cache, make: Maker) -> None:
    def broken(folder: Path) -> Mapping[str, Any]:
        make(folder)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get_or_make("engine", KEY, broken)
    assert not [path for path in (cache.folder / "engine").iterdir() if path.is_dir()]
    assert cache.get_or_make("engine", KEY, make).reason == "absent"


def test_a_maker_that_leaves_a_link_is_refused(cache: Cache) -> None:
    def make(folder: Path) -> Mapping[str, Any]:
        (folder / "link").symlink_to("/etc/passwd")
        return {}

    with pytest.raises(CacheError, match="more than plain files: foreign: 'link'"):
        cache.get_or_make("engine", KEY, make)


def test_leftovers_of_a_killed_maker_go(cache: Cache, make: Maker, entry: Entry) -> None:
    left = entry.folder.with_name(f".{entry.folder.name}-dead")
    left.mkdir()
    truncate(entry)
    cache.get_or_make("engine", KEY, make)
    assert not left.exists()


def test_a_full_disk_falls_to_a_temporary_folder_and_says_so(cache: Cache, make: Maker) -> None:
    def full(folder: Path) -> Mapping[str, Any]:
        if cache.folder in folder.parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return make(folder)

    first = cache.get_or_make("engine", KEY, full)
    assert first.reason.startswith("not kept: [Errno 28] No space left on device")
    assert (first.folder / "engine.bin").read_bytes() == CONTENT
    assert cache.folder not in first.folder.parents
    assert cache.get_or_make("engine", KEY, full).hit
    assert make.calls == 1


def test_a_cache_folder_that_cannot_be_made_falls_to_a_temporary_folder(tmp_path: Path, make: Maker) -> None:
    (tmp_path / "file").write_text("x")
    made = Cache(tmp_path / "file" / "cache").get_or_make("engine", KEY, make)
    assert made.reason.startswith("not kept: [Errno 20] Not a directory")
    assert made.manifest["call"] == 1


def test_a_read_only_file_system_falls_to_a_temporary_folder(
    cache: Cache, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert cache.get_or_make("engine", KEY, make).reason == "not kept: [Errno 30] Read-only file system"


@pytest.mark.usefixtures("entry")
def test_a_read_only_cache_still_gives_what_it_has(
    cache: Cache, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filelock.FileLock, "acquire", None)
    assert Cache(cache.folder).get_or_make("engine", KEY, make).hit


def test_a_full_disk_everywhere_is_an_error(cache: Cache) -> None:
    def full(folder: Path) -> Mapping[str, Any]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    with pytest.raises(CacheError, match="No space left on device"):
        cache.get_or_make("engine", KEY, full)


def test_an_unexpected_os_error_of_a_maker_is_not_hidden(cache: Cache) -> None:
    def broken(folder: Path) -> Mapping[str, Any]:
        raise FileNotFoundError(errno.ENOENT, "gone", str(folder))

    with pytest.raises(FileNotFoundError):
        cache.get_or_make("engine", KEY, broken)


@pytest.mark.parametrize("key", [{"a": {1, 2}}, {"a": float("nan")}, {"a": b"x"}])
def test_a_key_that_is_not_json_is_refused(cache: Cache, make: Maker, key: Any) -> None:
    with pytest.raises(CacheError, match="plain JSON"):
        cache.get_or_make("engine", key, make)


@pytest.mark.parametrize("kind", ["../engine", "", "Engine", "a/b", ".hidden"])
def test_a_kind_that_leaves_the_cache_is_refused(cache: Cache, make: Maker, kind: str) -> None:
    with pytest.raises(CacheError, match="plain lower-case name"):
        cache.get_or_make(kind, KEY, make)


def test_a_file_is_hashed_once_while_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    time.sleep(0.15)
    digest = file_digest(path)
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", None)
        assert file_digest(path) == digest
    path.write_bytes(CONTENT[:-1] + b"!")
    assert file_digest(path) != digest


CHILD = """
import sys, time
from pathlib import Path
from harness.storage.cache import Cache

def make(folder):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    print("making", flush=True)
    time.sleep(float(sys.argv[3]))
    (folder / "f").write_text("x")
    return {}

print(Cache(Path(sys.argv[1])).get_or_make("engine", {"a": 1}, make).reason)
"""


def start(cache: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(cache), str(log), str(seconds)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def test_eight_processes_make_one_entry_once(tmp_path: Path) -> None:
    processes = [start(tmp_path / "cache", tmp_path / "log", 0.3) for _ in range(8)]
    said = [process.communicate(timeout=60)[0].split("\n") for process in processes]
    assert (tmp_path / "log").read_text() == "made\n"
    assert sorted(lines[-2] for lines in said) == ["absent"] + ["hit"] * 7


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, make: Maker) -> None:
    process = start(tmp_path / "cache", tmp_path / "log", 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "making\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    made = Cache(tmp_path / "cache", timeout_s=5).get_or_make("engine", {"a": 1}, make)
    assert made.reason == "absent"
    left = [path.name for path in (tmp_path / "cache" / "engine").iterdir() if path.name.startswith(".")]
    assert left == []


def test_a_lock_held_too_long_is_an_error_that_names_it(cache: Cache, make: Maker, entry: Entry) -> None:
    truncate(entry)
    with (
        filelock.FileLock(entry.folder.with_name(f"{entry.folder.name}.lock")),
        pytest.raises(CacheError, match=r"\.lock: held by another process for 0\.1 s"),
    ):
        Cache(cache.folder, timeout_s=0.1).get_or_make("engine", KEY, make)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_an_entry_is_what_the_umask_says(cache: Cache, make: Maker, mask: int) -> None:
    before = os.umask(mask)
    try:
        folder = cache.get_or_make("engine", {"a": 1}, make, label="net").folder
    finally:
        os.umask(before)
    paths = [folder, *folder.rglob("*"), *folder.parent.glob("*.last")]
    assert {path.stat().st_mode & 0o777 for path in paths} <= {0o777 & ~mask, 0o666 & ~mask}


def nest_the_manifest(entry: Entry) -> None:
    (entry.folder / "manifest.json").write_text("[" * 100_000)


def make_the_manifest_a_pipe(entry: Entry) -> None:
    (entry.folder / "manifest.json").unlink()
    os.mkfifo(entry.folder / "manifest.json")


@pytest.mark.parametrize("harm", [nest_the_manifest, make_the_manifest_a_pipe])
def test_a_manifest_that_nothing_should_read_is_made_again(
    cache: Cache, make: Maker, entry: Entry, harm: Callable[[Entry], None]
) -> None:
    key = json.loads((entry.folder / "manifest.json").read_bytes())["key"]
    harm(entry)
    assert cache.get_or_make(entry.folder.parent.name, key, make).reason.startswith("damaged: ")
