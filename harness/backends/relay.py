"""Progress of a child process, told in its parent: the child leaves it in a file, the parent looks there."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Progress = Callable[[str, int, int], None]
"""Called with the phase and how many of its steps are done, of how many."""

INTERVAL_S = 0.2


@dataclass
class Relay:
    """The child's end: a Progress that keeps the latest step in the file `path`."""

    path: Path
    _next: float = field(default=0.0, compare=False)

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Write a step, at most one in INTERVAL_S."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + INTERVAL_S
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps([phase, done, total]))
        fresh.replace(self.path)


@contextlib.contextmanager
def relay(progress: Progress | None) -> Iterator[Relay | None]:
    """A Relay whose steps `progress` is told meanwhile; None where nobody wants to know."""
    if progress is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="trt-harness-") as name:
        path, stop = Path(name, "progress"), threading.Event()
        thread = threading.Thread(target=_follow, args=(path, progress, stop), daemon=True)
        thread.start()
        try:
            yield Relay(path)
        finally:
            stop.set()
            thread.join()
            _tell(path, progress, None)


def _follow(path: Path, progress: Progress, stop: threading.Event) -> None:
    told: str | None = None
    while not stop.wait(INTERVAL_S):
        told = _tell(path, progress, told)


def _tell(path: Path, progress: Progress, told: str | None) -> str | None:
    """Pass on what is in the file, unless it is what was told last."""
    text = path.read_text() if path.is_file() else None
    if text is not None and text != told:
        phase, done, total = json.loads(text)
        progress(phase, done, total)
    return text or told
