"""A content-keyed store on disk: nothing in it is trusted because it is there.

An entry is a folder `<root>/<kind>/<sha256 of its key>/` with files and a manifest that holds the key and
the size and SHA-256 of each file.  Entries are written beside their place and renamed into it, under a lock
between processes that the operating system frees when its holder dies.  An entry that does not verify is
made again, and the reason is told.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from harness.errors import CacheError

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
Make = Callable[[Path], Mapping[str, JSON]]

FORMAT = 1
MANIFEST = "manifest.json"
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.ENOTSUP)
SETTLED_NS = 100_000_000
_verified: dict[tuple[int, ...], str] = {}


@dataclass(frozen=True)
class Entry:
    """One entry: its `folder`, what its maker said (`manifest`), and whether and why it was made just now.

    `reason` is "hit", "absent", "stale: ...", "damaged: ...", "foreign: ..." or "not kept: ...".
    """

    folder: Path
    manifest: Mapping[str, Any]
    hit: bool
    reason: str


@dataclass
class Cache:
    """The store below `folder`; `timeout_s` bounds the wait for another process that makes the same entry."""

    folder: Path
    timeout_s: float = 3600.0
    _spare: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def get_or_make(self, kind: str, key: Mapping[str, JSON], make: Make, *, label: str = "") -> Entry:
        """The entry for `key`, made by `make(folder)` if it is absent or does not verify.

        `make` writes plain files and returns JSON data, found again as `Entry.manifest`.  `label` names what
        the entry is for: when the key of the same label changes, the reason says what changed.
        Raises CacheError, and whatever `make` raises.
        """
        place = _Place(Path(self.folder), kind, _canonical(key), label)
        found = place.read()
        if isinstance(found, Entry):
            return found
        try:
            return self._locked(place, make)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return self._spared(place, make, error)

    def _locked(self, place: _Place, make: Make) -> Entry:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(place.lock, timeout=self.timeout_s):
                found = place.read()
                return found if isinstance(found, Entry) else place.write(make, found)
        except filelock.Timeout as error:
            raise CacheError(f"{place.lock}: held by another process for {self.timeout_s:g} s") from error
        except NotImplementedError as error:
            raise OSError(errno.ENOTSUP, "the file system has no locks", str(place.lock)) from error

    def _spared(self, place: _Place, make: Make, error: OSError) -> Entry:
        if self._spare is None:
            self._spare = tempfile.TemporaryDirectory(prefix="trt-harness-")
        spare = _Place(Path(self._spare.name), place.kind, place.key, place.label)
        found = spare.read()
        if isinstance(found, Entry):
            return found
        spare.parent.mkdir(parents=True, exist_ok=True)
        try:
            made = spare.write(make, found)
        except OSError as second:
            raise CacheError(f"{self.folder}: {error}; {self._spare.name}: {second}") from second
        return Entry(made.folder, made.manifest, False, f"not kept: {error}")


@dataclass(frozen=True)
class _Place:
    """Where one entry lives, and how it is read and written there."""

    root: Path
    kind: str
    key: str
    label: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.kind):
            raise CacheError(f"kind = {self.kind!r}: must be a plain lower-case name")

    @property
    def parent(self) -> Path:
        return self.root / self.kind

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()

    @property
    def folder(self) -> Path:
        return self.parent / self.digest

    @property
    def lock(self) -> Path:
        return self.parent / f"{self.digest}.lock"

    @property
    def last_key(self) -> Path:
        return self.parent / f"{hashlib.sha256(self.label.encode()).hexdigest()}.last"

    def read(self) -> Entry | str:
        """The entry if it verifies, else why not."""
        if self.parent.is_symlink() or self.folder.is_symlink():
            return "foreign: a symbolic link in the entry's place"
        if not self.folder.is_dir():
            return self._why_absent()
        try:
            return Entry(self.folder, self._verify(), True, "hit")
        except _UnfitError as error:
            return str(error)
        except OSError as error:
            return f"damaged: {error}"

    def _verify(self) -> Mapping[str, Any]:
        manifest = _read_manifest(self.folder / MANIFEST)
        if manifest["format"] != FORMAT:
            raise _UnfitError(f"stale: cache format {manifest['format']}, this is {FORMAT}")
        if manifest["key"] != json.loads(self.key):
            raise _UnfitError("foreign: its manifest is of another key")
        expected: Mapping[str, Mapping[str, Any]] = manifest["files"]
        found = _files(self.folder)
        if strange := sorted(found.keys() ^ expected.keys()):
            state = "unexpected" if strange[0] in found else "missing"
            raise _UnfitError(f"damaged: file {strange[0]!r} is {state}")
        for name, path in found.items():
            _check_file(name, path, expected[name])
        data: Mapping[str, Any] = manifest["data"]
        return data

    def _why_absent(self) -> str:
        if not self.label:
            return "absent"
        try:
            before, now = json.loads(self.last_key.read_bytes()), json.loads(self.key)
        except (OSError, ValueError):
            return "absent"
        if not isinstance(before, dict) or before == now:
            return "absent"
        changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
        return f"stale: {', '.join(changed)} changed"

    def write(self, make: Make, reason: str) -> Entry:
        """Make the entry beside its place, then rename it in; what was there goes."""
        if self.parent.is_symlink():
            self.parent.unlink()
            self.parent.mkdir()
        for dead in self.parent.glob(f".{self.digest}-*"):
            shutil.rmtree(dead, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{self.digest}-", dir=self.parent))
        try:
            manifest = self._fill(fresh, make)
            self._swap_in(fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        if self.label:
            _write_synced(self.last_key, self.key.encode())
        return Entry(self.folder, manifest, False, reason)

    def _fill(self, fresh: Path, make: Make) -> Mapping[str, Any]:
        data = make(fresh)
        try:
            files = {name: _seal(path) for name, path in sorted(_files(fresh).items())}
        except _UnfitError as error:
            raise CacheError(
                f"{self.kind}: the maker left something else than plain files: {error}"
            ) from error
        manifest = {"format": FORMAT, "key": json.loads(self.key), "files": files, "data": data}
        text = json.dumps(manifest, indent=1)
        _write_synced(fresh / MANIFEST, text.encode())
        made: Mapping[str, Any] = json.loads(text)["data"]
        return made

    def _swap_in(self, fresh: Path) -> None:
        if self.folder.is_symlink() or self.folder.is_file():
            self.folder.unlink()
        elif self.folder.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{self.digest}-", dir=self.parent))
            os.replace(self.folder, aside)
            shutil.rmtree(aside, ignore_errors=True)
        os.replace(fresh, self.folder)
        _sync(self.parent)


class _UnfitError(Exception):
    """Why an entry on disk cannot be used."""


def _canonical(key: Mapping[str, JSON]) -> str:
    try:
        return json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CacheError(f"a cache key must be plain JSON: {error}") from error


def _read_manifest(path: Path) -> Mapping[str, Any]:
    if path.is_symlink():
        raise _UnfitError("foreign: its manifest is a symbolic link")
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _UnfitError("damaged: no manifest") from error
    except ValueError as error:
        raise _UnfitError(f"damaged: its manifest is not JSON ({error})") from error
    if not isinstance(manifest, dict) or {"format", "key", "files", "data"} - manifest.keys():
        raise _UnfitError("foreign: its manifest is not one of this cache")
    return manifest


def _files(folder: Path) -> dict[str, Path]:
    """Every file below `folder` but the manifest, by relative name; links and special files are refused."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise _UnfitError(f"foreign: {name!r} is not a plain file")
        if path.is_file() and name != MANIFEST:
            found[name] = path
    return found


def _check_file(name: str, path: Path, expected: Mapping[str, Any]) -> None:
    try:
        size, digest = expected["size"], expected["sha256"]
    except (TypeError, KeyError) as error:
        raise _UnfitError("foreign: its manifest is not one of this cache") from error
    if (actual := path.stat().st_size) != size:
        raise _UnfitError(f"damaged: {name!r} has {actual} bytes, its manifest says {size}")
    if file_digest(path) != digest:
        raise _UnfitError(f"damaged: {name!r} does not have the SHA-256 of its manifest")


def _seal(path: Path) -> dict[str, JSON]:
    _sync(path)
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


def _write_synced(path: Path, data: bytes) -> None:
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
