"""Where fetched files are kept, and what they hash to."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from harness.spec.model_spec import PackageMember

CACHE_VARIABLE = "TRT_HARNESS_CACHE"
"""Environment variable that moves the user's cache folder of this project."""


def assets_folder() -> Path:
    """The folder in which fetched files are kept: `assets` in the user's cache, or in $TRT_HARNESS_CACHE."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_path("trt-harness")) / "assets"


def stored_path(member: PackageMember, folder: Path | None = None) -> Path:
    """Where a fetched member is kept: under its own hash, with its own name."""
    return (folder or assets_folder()) / member.sha256 / PurePosixPath(member.member).name


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content, in hex; an unchanged file is read once in a process."""
    stat = file.stat()
    return _sha256(file, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@lru_cache(maxsize=1024)
def _sha256(file: Path, *_stat: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
