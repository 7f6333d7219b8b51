"""Where an array holds what is no number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 26


def first_nan(array: NDArray[Any], axis: int = 0) -> tuple[int, int, int] | None:
    """The first row along `axis` with NaN in it, how many it has, and its size; None where there is none.

    Mapped arrays are read block by block.
    """
    if array.dtype.kind not in "fc" and array.dtype.name != "bfloat16":
        return None
    rows = np.moveaxis(array, axis, 0) if array.ndim else array[None]
    for start, block in _blocks(rows):
        if np.isnan(block).any():
            counts = np.isnan(block).reshape(len(block), -1).sum(axis=1)
            row = int(np.flatnonzero(counts)[0])
            return start + row, int(counts[row]), int(block[row].size)
    return None


def _blocks(rows: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    step = max(1, BLOCK_BYTES // max(1, rows.nbytes // max(1, len(rows))))
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step]
