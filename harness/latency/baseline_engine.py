"""The engine that a baseline was measured with, found in the cache by the hash of its manifest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from harness.backends.base import Backend
from harness.engines.engine import BuiltEngine, built
from harness.errors import CacheError
from harness.storage.cache import JSON, Cache, entry_of
from harness.storage.files import MANIFEST, UnfitError, read_manifest


class _GoneError(Exception):
    """The entry did not verify, and nothing here can make it again."""


def find_engine(cache_dir: Path, hashes: Collection[str | None], backend: Backend) -> BuiltEngine | None:
    """The newest cached engine whose manifest has one of `hashes`; None where there is none that verifies."""
    for path in _manifests(cache_dir / "engine"):
        try:
            manifest = read_manifest(path)
            if built(entry_of(path.parent, manifest, "hit"), backend).manifest.hash in hashes:
                return built(Cache(cache_dir).get_or_make("engine", manifest["key"], _refuse), backend)
        except (UnfitError, CacheError, _GoneError, TypeError, KeyError):
            continue
    return None


def _manifests(folder: Path) -> list[Path]:
    """The manifests of the entries in `folder`, newest first."""
    found = [path for path in folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _refuse(_: Path) -> Mapping[str, JSON]:
    raise _GoneError
