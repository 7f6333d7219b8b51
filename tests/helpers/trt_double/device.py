"""A GPU in host memory: streams are queues, memory is aligned, watched and never given back for good."""

# ruff: noqa: ARG002 - a double has the parameters of what it stands for
from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.cuda.device import DeviceInfo, host_view, no_memory

ALIGNMENT, GUARD = 256, 4096
FIRST = 7
"""The handle of the first stream."""

STRICT = (
    "callbacks", "streams", "bounds", "alignment", "ownership", "profile", "host shapes", "unknown shapes",
    "formats", "types", "freed",
)  # fmt: skip
"""In what the doubles are as strict as a real device, or stricter; each has a fault that only it finds."""


@dataclass(eq=False)
class HostDevice:
    """A device of `limit` bytes of host memory.  Work waits in its stream's queue until that is waited for.

    `lenient` names what it does not look at.  `dependents` are objects that must not outlive it.
    """

    limit: int = 1 << 20
    closed: int = 0
    used: int = 0
    memory_of: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    queues: dict[int, list[Callable[[], object]]] = field(default_factory=lambda: {FIRST: []})
    buffers: list[NDArray[np.uint8]] = field(default_factory=list)
    graves: list[NDArray[np.uint8]] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    lenient: frozenset[str] = frozenset()
    dependents: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)
    created: int = 0

    def strict(self, what: str) -> bool:
        assert what in STRICT
        return what not in self.lenient

    @property
    def queue(self) -> list[Callable[[], object]]:
        return [work for queue in self.queues.values() for work in queue]

    def info(self) -> DeviceInfo:
        return DeviceInfo("Double", "8.9", "13.0")

    def memory(self) -> tuple[int, int]:
        return self.limit - self.used, self.limit

    def allocate(self, nbytes: int) -> int:
        assert nbytes >= 0, f"asked for {nbytes} bytes"
        if nbytes > self.limit - self.used:
            raise no_memory(nbytes, *self.memory())
        size = max(1, nbytes)
        block = np.full(size + ALIGNMENT + GUARD, 0xAB, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        place = block[start : start + size]
        self.memory_of[place.ctypes.data] = place
        self.used += size
        return int(place.ctypes.data)

    def free(self, pointer: int) -> None:
        place = self.memory_of.pop(pointer)
        self.graves.append(place)
        self.used -= place.nbytes

    def pinned(self, nbytes: int) -> NDArray[Any]:
        self.buffers.append(np.full(nbytes, 0xCD, np.uint8))
        return self.buffers[-1]

    def view(self, address: int, nbytes: int) -> NDArray[Any]:
        return host_view(address, nbytes)

    def require(self, address: int, nbytes: int, *, host: bool = False) -> None:
        """`nbytes` from `address` on are inside one live allocation."""
        owned = self.buffers if host else list(self.memory_of.values())
        found = [block for block in owned if 0 <= address - block.ctypes.data < max(block.nbytes, 1)]
        if not found:
            assert not self.strict("ownership"), f"{address:#x} is in no allocation that is alive"
            return
        left = max(block.nbytes - (address - block.ctypes.data) for block in found)
        assert nbytes <= left or not self.strict("bounds"), f"{nbytes} bytes, but {left} are allocated"

    def later(self, stream: int, work: Callable[[], object]) -> None:
        """Put work at the end of a stream."""
        if not self.strict("streams"):
            stream = FIRST
        self.queues.setdefault(stream, []).append(work)

    def upload(self, pointer: int, buffer: NDArray[Any], stream: int) -> None:
        self.require(pointer, buffer.nbytes)
        self.later(stream, lambda: ctypes.memmove(pointer, buffer.ctypes.data, buffer.nbytes))

    def download(self, buffer: NDArray[Any], pointer: int, stream: int) -> None:
        self.require(pointer, buffer.nbytes)
        self.streams.append(stream)
        self.later(stream, lambda: ctypes.memmove(buffer.ctypes.data, pointer, buffer.nbytes))

    def create_stream(self) -> int:
        self.created += 1
        self.queues.setdefault(FIRST + self.created - 1, [])
        return FIRST + self.created - 1

    def synchronize(self, stream: int) -> None:
        self.streams.append(stream)
        queue = self.queues.setdefault(stream if self.strict("streams") else FIRST, [])
        while queue:
            queue.pop(0)()

    def create_event(self) -> int:
        return 9

    def record(self, event: int, stream: int) -> None: ...

    def elapsed_s(self, start: int, end: int) -> float:
        return 0.0

    def close(self) -> None:
        alive = [type(item).__name__ for item in self.dependents]
        assert not alive or not self.strict("freed"), f"freed while {alive} need it"
        self.closed += 1
        self.created = 0
