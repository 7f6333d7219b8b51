"""What lies in a cache and was not used for long, and how it goes without disturbing who uses the rest."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.storage.files import MANIFEST, last_used_s
from harness.storage.locks import FileLock, Timeout

DAY_S = 86400.0


@dataclass(frozen=True)
class Item:
    """An entry of the cache, or what a killed process left of one, not used for `unused_s` seconds."""

    kind: str
    path: Path
    bytes: int
    unused_s: float


def items(cache: Path) -> Iterator[Item]:
    """Everything in a cache that can be made again: no fetched file, and nothing that is not the cache's."""
    now = time.time()
    for path in sorted(cache.glob("*/*")):
        if path.is_symlink() or path.parent.is_symlink() or not path.is_dir() or not _is_entry(path):
            continue
        with suppress(OSError):  # Another process may be removing it.
            yield Item(path.parent.name, path, _size(path), now - last_used_s(path))


def remove(item: Item) -> bool:
    """Remove an entry with its lock, unless a process holds that or has used the entry since."""
    name = item.path.name.removeprefix(".")[:64]
    lock = item.path.with_name(f"{name}.lock")
    try:
        with FileLock(lock, timeout=0):
            if time.time() - last_used_s(item.path) < item.unused_s:
                return False
            shutil.rmtree(item.path)
            lock.unlink(missing_ok=True)
    except (Timeout, OSError):
        return False
    return True


def _is_entry(folder: Path) -> bool:
    """An entry is named by the SHA-256 of its key; one that is being written has a dot and a suffix more."""
    whole = re.fullmatch(r"[0-9a-f]{64}", folder.name) and (folder / MANIFEST).is_file()
    return bool(whole or re.fullmatch(r"\.[0-9a-f]{64}-\w+", folder.name))


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
