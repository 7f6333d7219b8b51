"""What hostile input must not do: leave the case's folder, start programs, use the network, take for ever."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

SECONDS = 20.0
"""The longest that one case may take; the limit allows for a busy machine."""
LINE = 4000
"""The longest line that an error may be."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "os.fork")
CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.rmdir", "os.truncate")


class EscapeError(BaseException):
    """Hostile input made the harness do what it must not; no product code can catch it by accident."""


_allowed: list[Path] = []


def install() -> None:
    """Watch this process from now on; `confined` says what it may write."""
    sys.addaudithook(_watch)


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not _allowed:
        return
    if event in FORBIDDEN:
        raise EscapeError(f"{event} {args}")
    if event in CHANGING or (event == "open" and _writes(args)):
        _require_inside(args[0], event)
    if event == "pickle.find_class" and str(args[0]).partition(".")[0] not in ("numpy", "onnx_ir"):
        raise EscapeError(f"a pickle names {args}")


def _writes(args: tuple[Any, ...]) -> bool:
    return isinstance(args[2], int) and bool(args[2] & WRITING)


def _require_inside(path: Any, event: str) -> None:
    if isinstance(path, int) or str(path) == os.devnull:
        return
    real = Path(os.path.realpath(os.fsdecode(path)))
    if not any(real.is_relative_to(folder) for folder in _allowed):
        raise EscapeError(f"{event} {path!r}")


@contextmanager
def confined(folder: Path) -> Iterator[None]:
    """Writes go below `folder` or the system's temporary folder, or raise EscapeError; a case has SECONDS.

    What the product refuses is a HarnessError of printable lines.  Anything else that it raises goes on.
    """
    _allowed[:] = [Path(os.path.realpath(folder)), Path(os.path.realpath(tempfile.gettempdir()))]
    started = time.monotonic()
    try:
        yield
    except HarnessError as error:
        require_line(str(error))
    finally:
        _allowed.clear()
    if (took := time.monotonic() - started) > SECONDS:
        raise EscapeError(f"took {took:.0f} s")


def require_line(text: str) -> None:
    """Raise EscapeError unless `text` is one line, of bounded length, that no terminal acts on."""
    if not text or len(text) > LINE:
        raise EscapeError(f"an error of {len(text)} characters: {text[:200]!r}...")
    if odd := [c for c in text if unicodedata.category(c) in ("Cc", "Cs") or c in "\u2028\u2029\u202e"]:
        raise EscapeError(f"an error with {odd[0]!r} in it: {text[:500]!r}")


def limit_memory(bytes_: int) -> None:
    """Let this process have no more than so many bytes of private writable memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_, bytes_))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
