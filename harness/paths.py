"""Paths that users name, why one is not what it should be; temporary folders that no killed run leaves."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Where the system has no locks; `storage.locks` tells it.
    import filelock

SPEC_NAME = "spec.toml"
"""What a spec is called in a folder."""

PREFIX = "trt-harness-"
LOCK = ".alive"
YOUNG_S = 60.0
"""A folder younger than this may not be locked yet."""


def no_file(path: Path) -> str | None:
    """Why `path` is no file that can be read; None if it is one."""
    if nothing := nothing_at(path, "file"):
        return nothing
    return None if path.is_file() else "is a folder, not a file" if path.is_dir() else "is no ordinary file"


def nothing_at(path: Path, wanted: str = "file or folder") -> str | None:
    """Why there is nothing at `path`, where a `wanted` should be; None if there is something."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"no such {wanted}"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return None


@contextmanager
def written(path: Path) -> Iterator[None]:
    """While `path` is written through other files: an OSError names it, neither them nor no file at all."""
    try:
        yield
    except OSError as error:
        if error.errno:
            error.filename, error.filename2 = str(path), None
        raise


def bundled_models() -> Path:
    """The folder of the models that come along: of the checkout where one stands, else of the package."""
    here, package = Path("suites") / "models", Path(__file__).resolve().parent
    installed = package / "suites" / "models"
    beside = package.parent / "suites" / "models"
    return next((folder for folder in (here, installed, beside) if folder.is_dir()), here)


@contextmanager
def scratch(place: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """A folder in `place` (default: the system's for temporary files) while the context lasts.

    It is locked meanwhile; the system takes the lock from a process that is killed.
    """
    parent = os.path.abspath(place or tempfile.gettempdir())
    sweep(parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True) as name:
        lock = _locked(Path(name))
        try:
            yield Path(name)
        finally:
            if lock is not None:
                lock.release()


@lru_cache(maxsize=256)
def sweep(place: str) -> int:
    """Remove the folders in `place` whose processes are gone, once a process; how many they were."""
    return sum(map(_removed, _old(place)))


def _old(place: str) -> Iterator[Path]:
    """This user's folders that were locked once, but not only just now."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
                continue
            found = entry.stat(follow_symlinks=False)
            own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
            lock = Path(entry.path) / LOCK
            if own and time.time() - found.st_mtime > YOUNG_S and lock.is_file() and not lock.is_symlink():
                yield Path(entry.path)


def _removed(folder: Path) -> bool:
    lock = _locked(folder)
    if lock is None:
        return False
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _locked(folder: Path) -> filelock.BaseFileLock | None:
    """The folder's lock, held; None where another process has it, or the file system has no locks."""
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except (filelock.Timeout, NotImplementedError, OSError):
        return None
    return lock
