"""NumPy arrays to and from ONNX Runtime values, bfloat16 included."""

from __future__ import annotations

import ctypes
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

NUMPY_NAMES = MappingProxyType(
    {
        "tensor(float)": "float32",
        "tensor(double)": "float64",
        "tensor(float16)": "float16",
        "tensor(bfloat16)": "bfloat16",
        "tensor(bool)": "bool",
        "tensor(string)": "object",
        **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    }
)
ONNX_BFLOAT16 = 16


def to_ort(array: NDArray[Any]) -> Any:
    """An ONNX Runtime value that shares memory with a contiguous `array`."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype != ml_dtypes.bfloat16:
        return ort.OrtValue.ortvalue_from_numpy(array)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), ONNX_BFLOAT16)


def from_ort(value: Any) -> NDArray[Any]:
    """A NumPy array, a copy for bfloat16, from a tensor in host memory."""
    if value.data_type() != "tensor(bfloat16)":
        array: NDArray[Any] = value.numpy()
        return array
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(bytearray(raw), dtype=ml_dtypes.bfloat16).reshape(value.shape())


def zeros(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of zeros (empty strings) of a dtype named as in `NUMPY_NAMES`."""
    if dtype == "object":
        return np.full(shape, "", dtype=object)
    return np.zeros(shape, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
