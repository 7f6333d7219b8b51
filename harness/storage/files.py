"""Files of the cache on disk: read with suspicion, written so that a crash leaves nothing half done."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

FORMAT = 2
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
"""Beside each manifest its own SHA-256, as `sha256sum -c` takes it; scales, for one, are in the manifest."""
SETTLED_NS = 100_000_000
"""A file younger than this may still change without a change of its times."""
_verified: dict[tuple[int, ...], str] = {}


class UnfitError(Exception):
    """Why an entry on disk cannot be used."""


def read_manifest(path: Path) -> Mapping[str, Any]:
    """The manifest in `path`, as far as its form goes.  Raises UnfitError."""
    if path.is_symlink():
        raise UnfitError("foreign: its manifest is a symbolic link")
    if not path.is_file():
        raise UnfitError("damaged: no manifest")
    data = path.read_bytes()
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnfitError(f"damaged: its manifest is not JSON ({error})") from error
    if (
        not isinstance(manifest, dict)
        or not isinstance(manifest.get("files"), dict)
        or "data" not in manifest
    ):
        raise UnfitError("foreign: its manifest is not one of this cache")
    if manifest.get("format") == FORMAT:
        _check_seal(path.with_name(SEAL), data)
    return manifest


def _check_seal(path: Path, data: bytes) -> None:
    if path.is_symlink() or not path.is_file():
        raise UnfitError("damaged: its manifest has no SHA-256 beside it")
    if path.read_bytes() != _seal_of(data):
        raise UnfitError("damaged: its manifest does not have the SHA-256 beside it")


def _seal_of(data: bytes) -> bytes:
    return f"{hashlib.sha256(data).hexdigest()}  {MANIFEST}\n".encode()


def write_manifest(folder: Path, data: bytes) -> None:
    """Write the manifest of an entry, and its SHA-256 beside it."""
    write_synced(folder / MANIFEST, data)
    write_synced(folder / SEAL, _seal_of(data))


def mark_used(folder: Path) -> None:
    """Note the time at which an entry was used, where the file system takes it."""
    with suppress(OSError):
        os.utime(folder / SEAL)


def last_used_s(folder: Path) -> float:
    """When an entry was last used, in seconds since the epoch; of one without a seal, when it was changed."""
    seal = folder / SEAL
    return (seal if seal.is_file() else folder).stat().st_mtime


def plain_files(folder: Path) -> dict[str, Path]:
    """Every file below `folder` but manifest and seal, by relative name; refuses links and special files."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UnfitError(f"foreign: {name!r} is not a plain file")
        if path.is_file() and name not in (MANIFEST, SEAL):
            found[name] = path
    return found


def check_file(name: str, path: Path, expected: Mapping[str, Any]) -> None:
    """Hold a file against the size and SHA-256 that `expected` has of it.  Raises UnfitError."""
    try:
        size, digest = expected["size"], expected["sha256"]
    except (TypeError, KeyError) as error:
        raise UnfitError("foreign: its manifest is not one of this cache") from error
    if (actual := path.stat().st_size) != size:
        raise UnfitError(f"damaged: {name!r} has {actual} bytes, its manifest says {size}")
    if file_digest(path) != digest:
        raise UnfitError(f"damaged: {name!r} does not have the SHA-256 of its manifest")


def seal(path: Path) -> dict[str, Any]:
    """Bring a file to the disk; its size and SHA-256, for the manifest."""
    sync(path)
    return {"size": path.stat().st_size, "sha256": file_digest(path)}


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex, remembered in this process while inode, size and times stay."""
    state = path.stat()
    known = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if known in _verified:
        return _verified[known]
    # A file changed within one tick of the clock keeps its times: only a settled file is remembered.
    settled = time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED_NS
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if settled:
        _verified[known] = digest
    return digest


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that after a crash is either whole or as it was."""
    # Not by tempfile, which keeps all but the owner from reading, whatever the umask says.
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with fresh.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def sync(path: Path) -> None:
    """Bring a file or folder to the disk; Windows opens no folders, and writes what they hold by itself."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
