"""The engine that a baseline was measured with, found in the cache by the hash of its manifest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from harness.backends.base import Backend
from harness.cache import JSON, Cache
from harness.cache_files import MANIFEST, UnfitError, read_manifest
from harness.engine import BuiltEngine, built


class _GoneError(Exception):
    """The entry did not verify, and nothing here can make it again."""


def find_engine(cache_dir: Path, hashes: Collection[str | None], backend: Backend) -> BuiltEngine | None:
    """The cached engine whose manifest has one of `hashes`; None where there is none that verifies."""
    for key in _keys(cache_dir / "engine"):
        try:
            found = built(Cache(cache_dir).get_or_make("engine", key, _refuse), backend)
        except (_GoneError, TypeError, KeyError):
            continue
        if found.manifest.hash in hashes:
            return found
    return None


def _keys(folder: Path) -> Iterator[Mapping[str, JSON]]:
    """The keys of the entries in `folder`, newest first."""
    manifests = [path for path in folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")]
    for path in sorted(manifests, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            key = read_manifest(path).get("key")
        except UnfitError:
            continue
        if isinstance(key, dict):
            yield key


def _refuse(_: Path) -> Mapping[str, JSON]:
    raise _GoneError
