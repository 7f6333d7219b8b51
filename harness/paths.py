"""Paths that users name: why one is not what it should be, in words, whatever it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPEC_NAME = "spec.toml"
"""What a spec is called in a folder."""


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
