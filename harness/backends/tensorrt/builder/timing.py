"""TensorRT's timing cache: one file for each version and GPU, shared by all builds of a user.

A build starts from what the file holds and adds what it measured; the lock is held for reading and writing,
not while TensorRT builds.  Unverified on TensorRT hardware; TensorRT-RTX has no use for one.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BuildError
from harness.storage.locks import FileLock

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class TimingCache:
    """A timing cache file; it need not exist."""

    path: Path

    @staticmethod
    def of(folder: Path, version: str, gpu: str) -> TimingCache:
        """The file for a version and a GPU in `folder`."""
        return TimingCache(
            folder / (re.sub(r"[^A-Za-z0-9.]+", "-", f"{version}-{gpu or 'none'}") + ".timing")
        )

    def load(self, config: trt.IBuilderConfig) -> None:
        """Give `config` what the file holds.  Raises BuildError if TensorRT takes not even an empty cache.

        A damaged file gives an empty cache; one of another version or GPU is not taken, and starts anew.
        """
        with self._lock():
            data = self.path.read_bytes() if self.path.is_file() else b""
        if not any(_taken(config, held) for held in (data, b"")):
            raise BuildError("TensorRT takes no timing cache")

    def store(self, config: trt.IBuilderConfig) -> None:
        """Add what `config` measured to what the file holds by now."""
        measured = config.get_timing_cache()
        if measured is None:
            return
        with self._lock():
            if self.path.is_file():
                held = config.create_timing_cache(self.path.read_bytes())
                if held is not None:  # what is damaged or of another version is lost with the file
                    measured.combine(held, False)
            self._replace(bytes(memoryview(measured.serialize())))

    def _lock(self) -> FileLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{self.path}.lock")

    def _replace(self, data: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(self.path)


def _taken(config: trt.IBuilderConfig, data: bytes) -> bool:
    """Whether TensorRT makes a cache of `data`, and takes it."""
    cache = config.create_timing_cache(data)
    return cache is not None and config.set_timing_cache(cache, False)
