"""Whether CUDA sees a GPU in this process, asked of the driver itself; no context is made."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any
from uuid import UUID

SUCCESS = 0
NO_DEVICE = 100


def gpu_absence(index: int = 0) -> str | None:
    """Why CUDA has no GPU number `index` here, in one line; None if it has."""
    try:
        driver = _driver()
    except OSError as error:
        return f"there is no NVIDIA driver here: {error}"
    status = int(driver.cuInit(0))
    if status not in (SUCCESS, NO_DEVICE):
        return f"the NVIDIA driver does not start: cuInit says {_words(driver, status)}"
    found = _count(driver) if status == SUCCESS else 0
    if index < found:
        return None
    asked = "no GPU" if found == 0 else f"no GPU number {index}, there are {found}"
    return f"CUDA sees {asked}{_hidden()}"


def gpu_uuid(index: int = 0) -> str | None:
    """`GPU-...` of the GPU that CUDA numbers `index` in this process; None without such a GPU.

    CUDA numbers GPUs by speed, nvidia-smi and NVML by their place on the bus: only the UUID is the same.
    Of a part of a GPU (MIG) it is the whole GPU's.
    """
    if gpu_absence(index) is not None:
        return None
    driver = _driver()
    handle, uuid = ctypes.c_int(0), (ctypes.c_ubyte * 16)()
    found = driver.cuDeviceGet(ctypes.byref(handle), index) == SUCCESS
    if not found or driver.cuDeviceGetUuid(uuid, handle) != SUCCESS:
        return None
    return f"GPU-{UUID(bytes=bytes(uuid))}"


def _driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    return ctypes.CDLL(name)


def _count(driver: Any) -> int:
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    return count.value


def _words(driver: Any, status: int) -> str:
    text = ctypes.c_char_p()
    driver.cuGetErrorString(status, ctypes.byref(text))
    return f"{status}: {(text.value or b'nothing').decode()}"


def _hidden() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return ""
    return f": CUDA_VISIBLE_DEVICES = {visible!r} {'decides' if visible.strip() else 'hides every GPU'}"
