"""Samples that can be read several times, though they may come from an iterator that gives them once."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from harness.backends.runner import Tensors


@dataclass(frozen=True)
class Part:
    """Samples `start` to `stop` of samples that iterate afresh each time."""

    feeds: Iterable[Tensors]
    start: int
    stop: int

    def __iter__(self) -> Iterator[Tensors]:
        return islice(iter(self.feeds), self.start, self.stop)


@dataclass(frozen=True)
class _Stored:
    """Where one array lies in the file of a spool."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


class Spool:
    """Sets of tensors kept in a temporary file, iterated over in order any number of times.

    A context manager: the file is gone after it, or when nothing refers to the spool any more.
    """

    def __init__(self, feeds: Iterable[Tensors] = ()) -> None:
        self._file = tempfile.TemporaryFile(prefix="trt-harness-samples-")  # noqa: SIM115
        self._close = weakref.finalize(self, self._file.close)
        self._index: list[tuple[_Stored, ...]] = []
        for feed in feeds:
            self.append(feed)

    def append(self, tensors: Tensors) -> None:
        """Keep one more set of tensors."""
        self._index.append(tuple(self._store(name, array) for name, array in tensors.items()))

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for stored in self._index:
            yield {item.name: self._load(item) for item in stored}

    def _store(self, name: str, array: Any) -> _Stored:
        offset = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(array).tobytes())
        return _Stored(name, array.dtype, array.shape, offset)

    def _load(self, item: _Stored) -> Any:
        self._file.seek(item.offset)
        size = math.prod(item.shape) * item.dtype.itemsize
        return np.ndarray(item.shape, item.dtype, buffer=bytearray(self._file.read(size)))

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


@contextmanager
def rereadable(feeds: Iterable[Tensors]) -> Iterator[Iterable[Tensors]]:
    """The samples themselves where they iterate afresh each time, else a copy of them on disk."""
    if iter(feeds) is not feeds:
        yield feeds
        return
    with Spool(feeds) as spool:
        yield spool


def describe(feeds: Iterable[Tensors]) -> tuple[str, int]:
    """SHA-256, in hex, of every array's name, type, shape and values, and the number of samples."""
    digest, samples = hashlib.sha256(), 0
    for feed in feeds:
        samples += 1
        digest.update(f"sample {len(feed)}\n".encode())
        for name, array in sorted(feed.items()):
            digest.update((json.dumps([name, array.dtype.name, array.shape]) + "\n").encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest(), samples
