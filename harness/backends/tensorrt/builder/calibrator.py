"""INT8 calibrators of weakly typed TensorRT, 8.6 to 10.x: entropy-v2 and min-max.

Unverified on TensorRT hardware: checked against the bindings by type, and for behaviour by a double.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.base import CalibrationData, Tensors
from harness.backends.cuda.buffers import Buffers
from harness.backends.cuda.device import Device
from harness.backends.tensorrt.builder.calibration import ALGORITHMS, parse
from harness.backends.tensorrt.callbacks import Callback, keeping
from harness.backends.tensorrt.log import implement
from harness.backends.tensorrt.types import fitted, to_bytes
from harness.errors import DataError, NotHonouredError

if TYPE_CHECKING:
    import tensorrt as trt


class Calibrator(Callback):
    """Feeds batches to TensorRT; its methods are what IInt8Calibrator wants.

    `known`: the text of a calibration cache that makes batches unnecessary.  What TensorRT found is in
    `written`.  An error is kept, ends the batches, and must fail the build.
    """

    def __init__(
        self, data: CalibrationData, device: Device | None, dtypes: dict[str, str], known: str
    ) -> None:
        self._data, self._dtypes, self._known = data, dtypes, known
        self._batches: Iterator[Tensors] = _each(data)
        self._device = device
        self._buffers = Buffers(device) if device is not None else None
        self._stream = device.create_stream() if device is not None else 0
        self.written = ""

    @keeping(1)
    def get_batch_size(self) -> int:
        """Samples in a batch; networks with an explicit batch ignore it."""
        return self._data.batch_size

    @keeping(None)
    def get_batch(self, names: list[str]) -> list[int] | None:
        """Device pointers of the next batch in the order of `names`; None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else [self._send(name, batch) for name in names]

    def _send(self, name: str, batch: Tensors) -> int:
        if self._device is None or self._buffers is None:
            raise NotHonouredError("calibration runs on a GPU: give a calibration cache, or calibrate there")
        if name not in batch:
            raise DataError(f"calibration data has no input {name!r}")
        data = to_bytes(self._dtypes[name], fitted(batch[name], self._dtypes[name], name))
        pointer = self._buffers.send(name, data, self._stream)
        self._device.synchronize(self._stream)
        return pointer

    @keeping(None)
    def read_calibration_cache(self) -> bytes | None:
        """The known cache."""
        return self._known.encode() or None

    @keeping(None)
    def write_calibration_cache(self, cache: bytes | memoryview) -> None:
        """Keep what TensorRT found."""
        self.written = bytes(cache).decode()


def _each(data: CalibrationData) -> Iterator[Tensors]:
    yield from data.batches()


def create_calibrator(
    api: trt.Module, data: CalibrationData, device: Device | None, dtypes: dict[str, str], cache: Path | None
) -> Any:
    """A calibrator of the data's method, `entropy` or `minmax`.

    `dtypes`: TensorRT's type name of each input.  `cache`: a calibration cache to use instead of data.
    Raises NotHonouredError for another method, DataError for a cache of another algorithm.
    """
    bases = {"entropy": api.IInt8EntropyCalibrator2, "minmax": api.IInt8MinMaxCalibrator}
    if data.method not in bases:
        raise NotHonouredError(f'calibration method {data.method!r}: typing = "weak" has entropy and minmax')
    known = cache.read_text() if cache is not None else ""
    if known and (table := parse(known, cache)).algorithm != ALGORITHMS[data.method]:
        raise DataError(f"{cache}: made by {table.algorithm}, but the spec asks for {data.method}")
    return implement(bases[data.method], Calibrator)(data, device, dtypes, known)
