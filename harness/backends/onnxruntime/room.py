"""Memory that outputs of one run after another are written into.

Fresh memory is dear: the system clears every page of it at the first touch, which costs more CPU time than
many a node that fills it.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Shapes, TensorInfo

_ALIGNMENT = 64


class Room:
    """Arrays that share one stretch of memory, which grows to the most that was asked for at once."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    @property
    def nbytes(self) -> int:
        """How much memory is held."""
        return self._bytes.nbytes

    def arrays(self, infos: Sequence[TensorInfo], shapes: Shapes) -> dict[str, NDArray[Any]]:
        """An array for each of `infos` that has one of `shapes`; those of an earlier call are overwritten."""
        wanted = {info.name: (_dtype(info), shapes[info.name]) for info in infos if info.name in shapes}
        sizes = [math.prod(shape) * dtype.itemsize for dtype, shape in wanted.values()]
        starts = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]).tolist()
        self._grow(starts[-1])
        return {
            name: self._bytes[start : start + size].view(dtype).reshape(shape)
            for (name, (dtype, shape)), start, size in zip(wanted.items(), starts[:-1], sizes, strict=True)
        }

    def _grow(self, size: int) -> None:
        """Hold `size` bytes, and an eighth more, in case the next are a little larger: untouched it is free.

        Of pages of the usual size: NumPy asks for huge ones, which virtual machines are slow to provide.
        """
        if self.nbytes < size:
            self.clear()  # first: never both at once
            self._bytes = np.frombuffer(mmap.mmap(-1, size + size // 8), np.uint8)

    def clear(self) -> None:
        """Give the memory back."""
        self._bytes = np.empty(0, np.uint8)


def _dtype(info: TensorInfo) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if info.dtype == "bfloat16" else info.dtype)
