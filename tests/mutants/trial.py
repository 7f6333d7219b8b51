"""Tests run against a mutant, in a process forked from one with libraries loaded but none of the harness."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType

LIBRARIES = ("numpy", "scipy.stats", "ml_dtypes", "onnx", "onnx_ir", "onnxruntime", "pydantic")
# pytest would rewrite the harness's modules, since they are plugins, and read them from disk for that.
OPTIONS = ("-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--assert=plain")
SURVIVED, LIMIT_S = 0, 300.0


def load_libraries() -> None:
    """Import what every child needs, once."""
    for name in LIBRARIES:
        __import__(name)
    if any(name.startswith("harness") for name in sys.modules):
        raise RuntimeError("the harness is loaded already: a mutant would not be")


class Planted(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Finds one module in memory, at the path where it is on disk."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self._name, self._path, self._source = name, path, source

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """The mutant's spec; other modules are left to others."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002
        """Where the original is."""
        return str(self._path)

    def get_data(self, path: str) -> bytes:
        """The changed source; never byte code from disk."""
        if path.endswith(".pyc"):
            raise OSError(path)
        return self._source.encode()

    def get_code(self, fullname: str) -> CodeType | None:  # noqa: ARG002
        """Compiled here, so that no cached byte code is read or written."""
        return compile(self._source, str(self._path), "exec", dont_inherit=True)


def start(module: Path, source: str, tests: Sequence[str]) -> int:
    """Fork a child that runs the tests against the mutant; returns its process id."""
    if child := os.fork():
        return child
    status = 99
    try:
        os.setpgid(0, 0)
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        name = ".".join(module.with_suffix("").parts)
        sys.meta_path.insert(0, Planted(name, module.resolve(), source))
        import pytest

        status = int(pytest.main([*OPTIONS, *tests]))
    finally:
        os._exit(status)


def finished(children: dict[int, float]) -> tuple[int, int]:
    """Wait for one of the children, pid -> when it started: its pid and status; one too slow is killed."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            return pid, os.waitstatus_to_exitcode(status)
        for child, started in children.items():
            if time.monotonic() - started > LIMIT_S:
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
