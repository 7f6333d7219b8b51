"""A GPU in host memory for ONNX Runtime's CPU provider: its I/O binding then runs as it does on CUDA."""

# ruff: noqa: ARG002 - a double has the parameters of what it stands for
from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tests.helpers.trt_double import HostDevice


@dataclass(eq=False)
class OrtHostDevice(HostDevice):
    """A double that also downloads what ONNX Runtime allocated; a millisecond passes with each recording."""

    now: int = 0
    times: dict[int, int] = field(default_factory=dict)
    waits: int = 0

    def download(self, buffer: NDArray[Any], pointer: int, stream: int) -> None:
        self.later(stream, lambda: ctypes.memmove(buffer.ctypes.data, pointer, buffer.nbytes))

    def synchronize(self, stream: int) -> None:
        self.waits += 1
        super().synchronize(stream)

    def create_event(self) -> int:
        self.times[len(self.times) + 1] = 0
        return len(self.times)

    def record(self, event: int, stream: int) -> None:
        self.now += 1
        self.times[event] = self.now

    def elapsed_s(self, start: int, end: int) -> float:
        return (self.times[end] - self.times[start]) * 1e-3
