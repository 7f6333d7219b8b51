"""Limits of memory and the end of a parent; where the system has neither, a thread that looks.

It looks 20 times a second, so a child may overshoot its memory for as long, and longer while native code
keeps the interpreter.
"""

from __future__ import annotations

import os
import sys
import threading
import time

LOOK_S = 0.05
SET_PARENT_DEATH_SIGNAL, GET_PARENT_DEATH_SIGNAL = 1, 2
"""Options of Linux's `prctl`."""
FULL, ORPHAN = 87, 88
"""Exit statuses: too much memory, no parent any more."""


class Watch(threading.Thread):
    """Ends this process where it has more than `memory_bytes`, or where the process `parent` is gone."""

    def __init__(self, parent: int | None = None) -> None:
        super().__init__(name="trt-harness-watch", daemon=True)
        self.parent = parent
        self.memory_bytes: int | None = None

    def run(self) -> None:
        """Look until the process ends."""
        import psutil

        own = psutil.Process()
        while True:
            time.sleep(LOOK_S)
            if self.parent is not None and not psutil.pid_exists(self.parent):
                os._exit(ORPHAN)
            limit = self.memory_bytes
            if limit is not None and _private(own) > limit:
                os._exit(FULL)


def _private(process: object) -> int:
    """Bytes that the process holds for itself, as near as the system tells."""
    info = process.memory_info()  # type: ignore[attr-defined]
    return int(getattr(info, "private", info.rss))


def limit_memory(memory_bytes: int | None) -> bool:
    """Let the system limit private writable memory, and write no core; whether it can."""
    try:
        import resource
    except ImportError:
        return memory_bytes is None
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not RLIMIT_AS: runtimes map far more than they use.  The hard limit stays: the next call has its own.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = [limit for limit in (memory_bytes, hard) if limit not in (None, resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(known, default=hard), hard))
    return memory_bytes is None or enforces_limits()


def enforces_limits() -> bool:
    """Whether limits of memory hold here: Windows has none, macOS takes them and lets more through."""
    try:
        import resource
    except ImportError:
        return False
    return sys.platform.startswith("linux") and hasattr(resource, "RLIMIT_DATA")


def die_with_parent() -> bool:
    """Let the system kill this process when its parent ends; whether it can (Linux)."""
    import signal

    return _prctl(SET_PARENT_DEATH_SIGNAL, int(getattr(signal, "SIGKILL", 0)))


def has_parent_death_signal() -> bool:
    """Whether `die_with_parent` can."""
    import ctypes

    return _prctl(GET_PARENT_DEATH_SIGNAL, ctypes.byref(ctypes.c_int()))


def _prctl(option: int, argument: object) -> bool:
    import ctypes

    if not sys.platform.startswith("linux"):
        return False
    try:
        return int(ctypes.CDLL(None).prctl(option, argument)) == 0
    except (AttributeError, OSError):
        return False
