"""Arrays that a spec names: read from npz, npy or a loader, without trusting what they say of themselves."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from harness.errors import DataError, shorten
from harness.spec.assets import asset_paths
from harness.spec.model_spec import DataSource, ModelSpec
from harness.spec.user_code import call_loader, load_function

MAX_MEMBER_BYTES = 2 * 2**30
"""Largest array taken out of an npz, which is unpacked in memory; npy files are memory-mapped instead."""

_BROKEN = (
    *(OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error),
    # What NumPy raises on headers that are no tuple of a dtype, an order and a shape.
    *(SyntaxError, TypeError, OverflowError, MemoryError, tokenize.TokenError, struct.error),
)
_PLAIN_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How NumPy packs.  Others unpack all at once, whatever size the archive states."""


def load_array(spec: ModelSpec, key: str, source: DataSource, *, allow_code: bool = True) -> NDArray[Any]:
    """The array of `source`, which the spec has at the dotted `key`; of any dtype but objects.

    Raises DataError: one line naming file, key, value and rule.
    """
    if source.npz is not None:
        return _from_npz(spec, f"{key}.npz", source.npz, source.member or "")
    if source.npy is not None:
        return _from_npy(spec, f"{key}.npy", source.npy)
    assert source.loader is not None, "generated data has no array"
    function = load_function(spec, f"{key}.loader", source.loader, allow_code=allow_code)
    array = call_loader(function, lambda: asset_paths(spec))
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise data_error(spec, f"{key}.loader", source.loader, "must return a NumPy array of numbers")
    return array


def data_error(spec: ModelSpec, key: str, value: object, rule: str) -> DataError:
    """One line naming file, key, value and rule."""
    return DataError(f"{spec.path or spec.name}: {key} = {shorten(value)}: {rule}")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype called `name`, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(name)


def _from_npy(spec: ModelSpec, key: str, name: str) -> NDArray[Any]:
    try:
        with np.errstate(over="ignore"):  # Of the size that a header claims; it is refused as too large.
            return npy_format.open_memmap(spec.folder / name, mode="r")
    except _BROKEN as error:
        raise data_error(spec, key, name, _why(error)) from error


def _from_npz(spec: ModelSpec, key: str, name: str, member: str) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(spec.folder / name) as archive:
            members = [n.removesuffix(".npy") for n in archive.namelist()]
            if member not in members:
                rule = f"no member {member!r}; it has {', '.join(map(repr, members[:20]))}"
                raise data_error(spec, key, name, rule)
            info = archive.infolist()[members.index(member)]
            if info.file_size > MAX_MEMBER_BYTES:
                rule = (
                    f"member {member!r} unpacks to {info.file_size} bytes (limit {MAX_MEMBER_BYTES}); use npy"
                )
                raise data_error(spec, key, name, rule)
            if info.compress_type not in _PLAIN_PACKING:
                raise data_error(
                    spec, key, name, f"member {member!r} is packed in a way that NumPy never uses"
                )
            with archive.open(info) as stream:
                return _read_member(stream, info.file_size)
    except _BROKEN as error:
        raise data_error(spec, key, f"{name}:{member}", _why(error)) from error


def _read_member(stream: IO[bytes], size: int) -> NDArray[Any]:
    """The array in `stream` of `size` bytes.  The size is checked before anything of it is allocated."""
    version = npy_format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy format {version} is not taken")
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("Python objects")
    count = math.prod(shape)
    if count * dtype.itemsize != size - stream.tell():
        raise ValueError(f"shape {shape} of {dtype} does not match the {size} bytes there are")
    array: NDArray[Any] = np.frombuffer(stream.read(count * dtype.itemsize), dtype, count)
    return array.reshape(shape, order="F" if fortran else "C")


def _why(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if "object" in text.lower():
        return "holds Python objects (pickles), which are never loaded"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {text[:200] or type(error).__name__}"
