"""Any value as plain JSON data, and files that are there whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.paths import written


def plain(value: Any) -> Any:
    """`value` as JSON data: non-finite numbers and unknown objects as text, NumPy scalars as numbers."""
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return plain(value.item()) if hasattr(value, "item") else str(value)


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` as strict JSON text."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically, in UTF-8; a lone surrogate becomes a backslash escape."""
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, text)
    return path


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
