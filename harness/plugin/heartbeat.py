"""Signs of life during long steps: a line when one has taken a while, and again every so often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Heartbeat:
    """Writes what has been running for `interval_s` seconds or longer, every `interval_s` seconds."""

    def __init__(
        self,
        write: Callable[[str], object],
        interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._interval_s, self._clock = write, interval_s, clock
        self._running: dict[str, float] = {}
        self._note = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="trt-harness-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to watch the time."""
        self._thread.start()

    def begin(self, what: str) -> None:
        """`what` runs from now on."""
        self._note = ""
        self._running[what] = self._clock()

    def note(self, text: str) -> None:
        """What it is doing now."""
        self._note = text

    def end(self, what: str) -> None:
        """`what` has ended."""
        self._running.pop(what, None)

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self) -> None:
        """Write a line if what began first has run long enough."""
        first = min(list(self._running.items()), key=lambda item: item[1], default=None)
        if first is None or (age := self._clock() - first[1]) < self._interval_s:
            return
        note = f": {self._note}" if self._note else ""
        self._write(f"\n  {age:.0f} s in {first[0]}{note}\n")

    def _loop(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.beat()
