"""The processors that this process may use: what bounds threads and workers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable() -> int:
    """How many processors the affinity and the cgroups of this process let it use, at least 1.

    A container with a limit sees every processor of its machine: as many threads would stand in each
    other's way.
    """
    number = len(allowed()) or os.cpu_count() or 1
    return max(1, math.ceil(min([number, *limits()])))


def limited() -> int | None:
    """`usable`, where that is fewer than the machine has; None where it is all of them."""
    number = usable()
    return number if number < (os.cpu_count() or 1) else None


def allowed() -> tuple[int, ...]:
    """The numbers of the processors that the affinity allows; empty where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    import psutil

    asked = getattr(psutil.Process(), "cpu_affinity", None)  # Windows has it, macOS does not
    try:
        return tuple(sorted(asked())) if asked else ()
    except (psutil.Error, OSError):
        return ()


def restrict(numbers: Iterable[int]) -> bool:
    """Keep this process on the processors `numbers`; whether the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, numbers)
        return True
    import psutil

    asked = getattr(psutil.Process(), "cpu_affinity", None)
    if asked is None:
        return False
    asked(list(numbers))
    return True


def limits() -> Iterator[float]:
    """Processor seconds a second that each limited cgroup around this process grants (Linux, v1 and v2)."""
    for folder in _folders():
        found = _numbers(folder / "cpu.max")  # v2: "quota period", "max" for none
        found = found or _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
        if len(found) == 2 and min(found) > 0:
            yield found[0] / found[1]


def _folders() -> Iterator[Path]:
    """The cgroup's folder and those around it; a container may see its own as the outermost."""
    for line in _text(MEMBERSHIP).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = CGROUPS / controllers
        inner = top / path.lstrip("/")
        yield from [inner, *(folder for folder in inner.parents if folder.is_relative_to(top))]


def _numbers(path: Path) -> list[float]:
    return [float(word) for word in _text(path).split() if word.lstrip("-").isdigit()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
