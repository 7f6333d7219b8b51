"""Weights: their magnitudes, and their conversion to other types without a copy before they are written."""

from __future__ import annotations

import mmap
import sys
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

LARGEST = MappingProxyType({ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: 2.0**128 - 2.0**120})
"""Largest finite value of each 16-bit type."""

FP16_MIN_NORMAL = 2.0**-14

_CHUNK = 1 << 16
_INF_BITS = np.uint32(0x7F800000)
_KEY = "harness.magnitude"
_LARGE_BYTES = 1 << 24


@dataclass(frozen=True)
class Magnitude:
    """Largest finite and smallest non-zero absolute value of a tensor; both 0 where there is none."""

    largest: float
    smallest: float

    def overflows(self, dtype: ir.DataType) -> bool:
        """Whether a finite value lies outside the range of the 16-bit type `dtype`."""
        return self.largest > LARGEST[dtype]

    @property
    def underflows(self) -> bool:
        """Whether a non-zero value is subnormal or zero in FP16."""
        return 0 < self.smallest < FP16_MIN_NORMAL


def magnitude(tensor: ir.TensorProtocol) -> Magnitude:
    """The magnitude of the FLOAT tensor `tensor`; found once, and kept with the tensor."""
    kept = tensor.meta.get(_KEY)
    if isinstance(kept, Magnitude):
        return kept
    found = _scan(np.ascontiguousarray(tensor.numpy()))
    _forget_pages(tensor)
    tensor.meta[_KEY] = found
    return found


def _forget_pages(tensor: ir.TensorProtocol) -> None:
    """Give the pages of a large mapped tensor back to the system; they are read again when needed."""
    if not isinstance(tensor, ir.ExternalTensor) or tensor.nbytes < _LARGE_BYTES:
        return
    mapped = tensor.raw
    if not isinstance(mapped, mmap.mmap) or sys.platform == "win32":
        return
    start = (tensor.offset or 0) // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, start, min(tensor.nbytes, len(mapped) - start))


def _scan(array: NDArray[np.float32]) -> Magnitude:
    """Absolute values of floats order like their bits; blocks that fit the processor's cache are fastest."""
    flat = array.reshape(-1).view(np.uint32)
    largest, smallest = np.uint32(0), _INF_BITS
    block = np.empty(min(_CHUNK, flat.size), np.uint32)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        bits = np.bitwise_and(part, np.uint32(0x7FFFFFFF), out=block[: part.size])
        top = bits.max()
        if top >= _INF_BITS:
            bits = bits[bits < _INF_BITS]
            top = bits.max(initial=np.uint32(0))
        largest = max(largest, top)
        # Zero wraps to the largest integer, and so never is the smallest.
        low = np.subtract(bits, np.uint32(1), out=bits).min(initial=_INF_BITS)
        smallest = min(smallest, low + np.uint32(1))
    return Magnitude(_value(largest), 0.0 if smallest >= _INF_BITS else _value(smallest))


def _value(bits: Any) -> float:
    return float(np.array([bits], np.uint32).view(np.float32)[0])


def converted(tensor: ir.TensorProtocol, dtype: ir.DataType, name: str) -> ir.LazyTensor:
    """`tensor` rounded to nearest in `dtype`, computed whenever it is read."""

    def load() -> ir.TensorProtocol:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            made = ir.Tensor(tensor.numpy().astype(dtype.numpy()), dtype=dtype)
        _forget_pages(tensor)
        return made

    return ir.LazyTensor(load, dtype, ir.Shape(tensor.shape.numpy()), name=name)
