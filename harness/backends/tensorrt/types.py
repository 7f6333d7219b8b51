"""TensorRT's data types and NumPy's, and the packed ones among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.errors import RunError

Array = NDArray[np.generic]
NUMPY: Mapping[str, np.dtype[np.generic]] = MappingProxyType(
    {
        "FLOAT": np.dtype(np.float32),
        "HALF": np.dtype(np.float16),
        "BF16": np.dtype(ml_dtypes.bfloat16),
        "INT8": np.dtype(np.int8),
        "UINT8": np.dtype(np.uint8),
        "INT32": np.dtype(np.int32),
        "INT64": np.dtype(np.int64),
        "BOOL": np.dtype(np.bool_),
        "FP8": np.dtype(ml_dtypes.float8_e4m3fn),
        "E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
        "INT4": np.dtype(ml_dtypes.int4),
        "FP4": np.dtype(ml_dtypes.float4_e2m1fn),
    }
)
"""By the name of TensorRT's `DataType`; its integers move between versions."""

PACKED = ("INT4", "FP4")
"""Two elements in a byte, the first in the low half."""


def numpy_type(name: str) -> np.dtype[np.generic]:
    """The NumPy type of a TensorRT type.  Raises RunError for one that is not known."""
    if name not in NUMPY:
        raise RunError(f"tensor type {name}: not known to this version of the harness")
    return NUMPY[name]


def nbytes_of(name: str, shape: tuple[int, ...]) -> int:
    """Bytes that a tensor takes on the device."""
    count = math.prod(shape)
    return (count + 1) // 2 if name in PACKED else count * numpy_type(name).itemsize


def to_bytes(name: str, values: Array) -> NDArray[np.uint8]:
    """`values` as the device holds them."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if name not in PACKED:
        return flat
    nibbles = np.append(flat, np.uint8(0)) if flat.size % 2 else flat
    return ((nibbles[0::2] & 0xF) | (nibbles[1::2] << 4)).astype(np.uint8)


def from_bytes(name: str, data: NDArray[np.uint8], shape: tuple[int, ...]) -> Array:
    """A tensor out of the bytes that the device holds; a copy."""
    if name not in PACKED:
        return data.copy().view(numpy_type(name)).reshape(shape)
    nibbles: NDArray[np.uint8] = np.stack([data & 0xF, data >> 4], axis=1).reshape(-1)[: math.prod(shape)]
    if name == "INT4":
        signed = (nibbles.astype(np.int8) ^ 8) - 8
        return signed.astype(numpy_type(name)).reshape(shape)
    return nibbles.view(numpy_type(name)).reshape(shape)


def fitted(values: Array, name: str, label: str) -> Array:
    """`values` in the type of input `label`; only conversions that keep every value, and FP64 to FP32.

    TensorRT has no FP64, and before 10.0 no INT64: it makes such inputs FLOAT and INT32.  Raises RunError.
    """
    wanted = numpy_type(name)
    if values.dtype == wanted:
        return values
    if (values.dtype, wanted) == (np.dtype(np.float64), np.dtype(np.float32)):
        return values.astype(np.float32)
    if (values.dtype, wanted) == (np.dtype(np.int64), np.dtype(np.int32)):
        narrow = values.astype(np.int32)
        if np.array_equal(narrow, values):
            return narrow
        raise RunError(f"input {label!r}: values do not fit INT32, which the engine takes")
    raise RunError(f"input {label!r}: dtype {values.dtype}, but the engine takes {wanted} ({name})")
