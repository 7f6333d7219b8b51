"""A content-keyed store on disk: nothing in it is trusted because it is there.

An entry is a folder `<root>/<kind>/<sha256 of its key>/` with files and a manifest that holds the key and
the size and SHA-256 of each file.  Entries are written beside their place and renamed into it, under a lock
between processes that the operating system frees when its holder dies.  An entry that does not verify is
made again, and the reason is told.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import CacheError
from harness.storage.files import (
    FORMAT,
    MANIFEST,
    UnfitError,
    check_file,
    mark_used,
    plain_files,
    read_manifest,
    seal,
    sync,
    write_manifest,
    write_synced,
)
from harness.storage.locks import FileLock, Timeout

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
Make = Callable[[Path], Mapping[str, JSON]]

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.ENOTSUP)


@dataclass(frozen=True)
class Entry:
    """One entry: its `folder`, what its maker said (`manifest`), and whether and why it was made just now.

    `reason` is "hit", "absent", "stale: ...", "damaged: ...", "foreign: ..." or "not kept: ...".  `files`
    has the SHA-256 of each file by name.
    """

    folder: Path
    manifest: Mapping[str, Any]
    hit: bool
    reason: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Cache:
    """The store below `folder`; `timeout_s` bounds the wait for another process that makes the same entry."""

    folder: Path
    timeout_s: float = 3600.0
    _spare: Path | None = field(default=None, repr=False)

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
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return self._spared(place, make, error)
        try:
            return self._locked(place, make)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return self._spared(place, make, error)

    def _locked(self, place: _Place, make: Make) -> Entry:
        try:
            with FileLock(place.lock, timeout=self.timeout_s):
                found = place.read()
                return found if isinstance(found, Entry) else place.write(make, found)
        except Timeout as error:
            raise CacheError(f"{place.lock}: held by another process for {self.timeout_s:g} s") from error
        except OSError as error:
            if place.lock.is_symlink():
                raise CacheError(f"{place.lock}: a symbolic link in a lock's place: remove it") from error
            raise
        except NotImplementedError as error:
            raise OSError(errno.ENOTSUP, "the file system has no locks", str(place.lock)) from error

    def _spared(self, place: _Place, make: Make, error: OSError) -> Entry:
        if self._spare is None:
            self._spare = Path(tempfile.mkdtemp(prefix="trt-harness-"))
            atexit.register(shutil.rmtree, self._spare, ignore_errors=True)
        spare = _Place(self._spare, place.kind, place.key, place.label)
        found = spare.read()
        if isinstance(found, Entry):
            return found
        spare.parent.mkdir(parents=True, exist_ok=True)
        try:
            made = spare.write(make, found)
        except OSError as second:
            raise CacheError(f"{self.folder}: {error}; {self._spare}: {second}") from second
        return replace(made, reason=f"not kept: {error}")


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
            entry = entry_of(self.folder, self._verify(), "hit")
        except UnfitError as error:
            return str(error)
        except OSError as error:
            return f"damaged: {error}"
        mark_used(self.folder)
        return entry

    def _verify(self) -> Mapping[str, Any]:
        """The manifest, if the folder holds what it says."""
        manifest = read_manifest(self.folder / MANIFEST)
        if manifest.get("format") != FORMAT:
            raise UnfitError(f"stale: cache format {manifest.get('format')}, this is {FORMAT}")
        if manifest.get("key") != json.loads(self.key):
            raise UnfitError("foreign: its manifest is of another key")
        expected: Mapping[str, Mapping[str, Any]] = manifest["files"]
        found = plain_files(self.folder)
        if strange := sorted(found.keys() ^ expected.keys()):
            state = "unexpected" if strange[0] in found else "missing"
            raise UnfitError(f"damaged: file {strange[0]!r} is {state}")
        for name, path in found.items():
            check_file(name, path, expected[name])
        return manifest

    def _why_absent(self) -> str:
        if not self.label:
            return "absent"
        try:
            before, now = json.loads(self.last_key.read_bytes()), json.loads(self.key)
        except (OSError, ValueError, RecursionError):
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
        fresh = self.parent / f".{self.digest}-{secrets.token_hex(8)}"
        fresh.mkdir()  # With the mode that the umask says: others may share the cache.
        try:
            manifest = self._fill(fresh, make)
            self._swap_in(fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        if self.label:
            write_synced(self.last_key, self.key.encode())
        return entry_of(self.folder, manifest, reason)

    def _fill(self, fresh: Path, make: Make) -> Mapping[str, Any]:
        data = make(fresh)
        try:
            files = {name: seal(path) for name, path in sorted(plain_files(fresh).items())}
        except UnfitError as error:
            raise CacheError(f"{self.kind}: its maker left more than plain files: {error}") from error
        manifest = {"format": FORMAT, "key": json.loads(self.key), "files": files, "data": data}
        text = json.dumps(manifest, indent=1)
        write_manifest(fresh, text.encode())
        made: Mapping[str, Any] = json.loads(text)
        return made

    def _swap_in(self, fresh: Path) -> None:
        if self.folder.is_symlink() or self.folder.is_file():
            self.folder.unlink()
        elif self.folder.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{self.digest}-", dir=self.parent))
            os.replace(self.folder, aside)
            shutil.rmtree(aside, ignore_errors=True)
        os.replace(fresh, self.folder)
        sync(self.parent)


def entry_of(folder: Path, manifest: Mapping[str, Any], reason: str) -> Entry:
    """The entry that a manifest describes; none of its files has been looked at."""
    digests = {name: str(seal["sha256"]) for name, seal in manifest["files"].items()}
    return Entry(folder, manifest["data"], reason == "hit", reason, digests)


def _canonical(key: Mapping[str, JSON]) -> str:
    try:
        return json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CacheError(f"a cache key must be plain JSON: {error}") from error
