"""Runs whose inputs and outputs stay on the device, and times between events around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.cuda.device import Device

Bytes = NDArray[np.uint8]


class EventTimer:
    """Pairs of events on one stream, as `latency.measure.DeviceTimer` wants them; events are used again."""

    def __init__(self, device: Device, stream: int) -> None:
        self._device, self._stream = device, stream
        self._pairs: list[tuple[int, int]] = []
        self._used = 0

    def start(self) -> None:
        """Record the first event of a pair."""
        if self._used == len(self._pairs):
            self._pairs.append((self._device.create_event(), self._device.create_event()))
        self._device.record(self._pairs[self._used][0], self._stream)

    def stop(self) -> None:
        """Record the second event of a pair, then wait: runs never overlap."""
        self._device.record(self._pairs[self._used][1], self._stream)
        self._used += 1
        self._device.synchronize(self._stream)

    def times_s(self) -> list[float]:
        """Seconds of every pair since the last call, in order."""
        done, self._used = self._pairs[: self._used], 0
        return [self._device.elapsed_s(start, end) for start, end in done]


def _nothing() -> None:
    """What is bound for good needs no preparation."""


@dataclass(frozen=True)
class Slot:
    """One tensor: its memory on the device, pinned host memory of the same size, and what that says.

    `pointer` is None for a tensor that the engine takes or gives in host memory.
    """

    pointer: int | None
    staging: Bytes
    values: Callable[[], NDArray[Any]]

    @property
    def address(self) -> int:
        """Where the engine finds the tensor."""
        return int(self.staging.ctypes.data) if self.pointer is None else self.pointer


@dataclass(frozen=True)
class DeviceRun:
    """One run of an engine between memory that is already there; calling it starts it and waits for its end.

    `enqueue` only starts it, on `stream`; `prepare` binds its memory before, where runs share a context.
    `inputs` and `outputs` are by tensor name.
    """

    device: Device
    stream: int
    enqueue: Callable[[], object]
    inputs: Mapping[str, Slot]
    outputs: Mapping[str, Slot]
    prepare: Callable[[], object] = _nothing

    def __call__(self) -> None:
        self.prepare()
        self.enqueue()
        self.device.synchronize(self.stream)

    def start_upload(self) -> None:
        """Start the copies of all inputs from pinned memory to the device."""
        for slot in self.inputs.values():
            if slot.pointer is not None:
                self.device.upload(slot.pointer, slot.staging, self.stream)

    def start_download(self) -> None:
        """Start the copies of all outputs from the device to pinned memory."""
        for slot in self.outputs.values():
            if slot.pointer is not None:
                self.device.download(slot.staging, slot.pointer, self.stream)

    def upload(self) -> None:
        """Copy all inputs, and wait."""
        self.start_upload()
        self.device.synchronize(self.stream)

    def download(self) -> None:
        """Copy all outputs, and wait."""
        self.start_download()
        self.device.synchronize(self.stream)

    def fetch(self) -> dict[str, NDArray[Any]]:
        """What the last run wrote, by output name; copies."""
        self.download()
        return {name: slot.values() for name, slot in self.outputs.items()}

    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes that are copied: `upload` and `download`."""
        return {"upload": _bytes(self.inputs), "download": _bytes(self.outputs)}


def _bytes(slots: Mapping[str, Slot]) -> int:
    return sum(slot.staging.nbytes for slot in slots.values() if slot.pointer is not None)
