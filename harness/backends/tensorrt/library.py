"""The version of TensorRT's library that this process loaded, whatever its bindings say."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

MAPS = Path("/proc/self/maps")
LIBRARIES = {"tensorrt": r"libnvinfer\.so", "tensorrt_rtx": r"libtensorrt_rtx\.so"}


def loaded_version(name: str) -> tuple[int, int, int] | None:
    """Major, minor and patch number of the library behind the bindings `name`; None if it cannot be asked."""
    path = loaded_library(name)
    if path is None:
        return None
    library = ctypes.CDLL(path)
    if not hasattr(library, "getInferLibVersion"):
        return None
    return split_version(int(library.getInferLibVersion()))


def loaded_library(name: str) -> str | None:
    """The file of the library that is loaded."""
    if not MAPS.is_file():
        return None
    pattern = re.compile(rf"/\S*{LIBRARIES[name]}[^/\s]*$")
    found = (pattern.search(line) for line in MAPS.read_text().splitlines())
    return next((match[0] for match in found if match), None)


def split_version(number: int) -> tuple[int, int, int]:
    """8601 is TensorRT 8.6.1, 101303 is 10.13.3, and 10701 is TensorRT-RTX 1.7.1."""
    factor = 10000 if number >= 10000 else 1000
    return number // factor, number % factor // 100, number % 100
