"""What CUDA's failures mean, out of the words of a runtime: no memory left, a device that is lost."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.errors import DeviceLostError, RunError

NO_MEMORY = re.compile(
    r"out of memory|OUT_OF_MEMORY|Failed to allocate memory|smaller than requested bytes"
    r"|MEMORY_ALLOCATION|ALLOC_FAILED|CUDA failure 2:"
)
ASKED = re.compile(r"(?:buffer of size|[Ff]ailed to allocate|requested|requested bytes of|asked for) (\d+)")
LOST = re.compile(
    r"CUDA (?:failure|error) (?:46|214|220|226|700|702|710|71[4-9]):"
    r"|CUDA_ERROR_(?:ILLEGAL_ADDRESS|LAUNCH_FAILED|LAUNCH_TIMEOUT|ECC_UNCORRECTABLE|DEVICE_UNAVAILABLE"
    r"|HARDWARE_STACK_ERROR|ILLEGAL_INSTRUCTION|MISALIGNED_ADDRESS|INVALID_ADDRESS_SPACE|INVALID_PC|ASSERT"
    r"|CONTEXT_IS_DESTROYED|NVLINK_UNCORRECTABLE|CONTAINED)"
    r"|an illegal memory access was encountered|unspecified launch failure|device-side assert"
    r"|uncorrectable ECC error|(?:GPU|device) (?:is lost|has fallen off)"
)
"""CUDA keeps these errors: every later call of the process fails with them."""
ADVICE = (
    "the GPU is lost to this process, later cases in it fail too; "
    "with -n (pytest-xdist) a new worker goes on with them"
)


def explained(said: str, memory: Callable[[], tuple[int, int]] | None = None) -> RunError:
    """The error that `said` means; `memory` gives free and total bytes of the device."""
    if LOST.search(said):
        return DeviceLostError(f"{said}: {ADVICE}")
    if NO_MEMORY.search(said):
        return RunError(f"out of device memory{_asked(said)}{_free(memory)}: {said}")
    return RunError(said)


def _asked(said: str) -> str:
    found = ASKED.search(said)
    return f": asked for {found[1]} bytes" if found else ""


def _free(memory: Callable[[], tuple[int, int]] | None) -> str:
    if memory is None:
        return ""
    try:
        free, total = memory()
    except RunError:  # The device that has just failed may not answer.
        return ""
    return f", {free} of {total} bytes are free"
