"""Waiting for a pipe for a bounded time, also on Windows, whose `select` takes no pipes."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import IO, Any

LOOK_S = 0.005


def readable(pipe: IO[bytes], limit_s: float) -> bool:
    """Whether `pipe` has something, or its end, within `limit_s`; `select` takes no descriptor above 1023."""
    if os.name == "nt":
        return looked(lambda: peek(pipe), limit_s)
    with selectors.DefaultSelector() as waiting:
        waiting.register(pipe, selectors.EVENT_READ)
        return bool(waiting.select(limit_s))


def looked(there: Callable[[], bool], limit_s: float) -> bool:
    """Whether `there()` came true within `limit_s`; asked again and again."""
    end = time.monotonic() + limit_s
    while not there():
        if time.monotonic() >= end:
            return False
        time.sleep(LOOK_S)
    return True


def peek(pipe: IO[bytes]) -> bool:
    """Whether a pipe of Windows has something, or its end."""
    import ctypes
    import importlib

    kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = importlib.import_module("msvcrt").get_osfhandle(pipe.fileno())
    count = ctypes.c_ulong(0)
    fine = kernel.PeekNamedPipe(ctypes.c_void_p(handle), None, 0, None, ctypes.byref(count), None)
    return not fine or count.value > 0
