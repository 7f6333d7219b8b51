"""A symbolic link where a lock belongs is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import CacheError
from harness.storage.cache import Cache


def test_a_symbolic_link_in_a_locks_place_is_named(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    folder = cache.get_or_make("kind", {"a": 1}, lambda _: {}).folder
    lock = folder.with_name(f"{folder.name}.lock")
    (folder / "manifest.json").unlink()
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match=r"\.lock: a symbolic link in a lock's place: remove it"):
        cache.get_or_make("kind", {"a": 1}, lambda _: {})
    assert not (tmp_path / "elsewhere").exists()
