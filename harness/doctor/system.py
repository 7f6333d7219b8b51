"""What the system lacks, and what stands in for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness import processors
from harness.isolation import watch
from harness.storage import locks


def stand_ins() -> Iterator[str]:
    """One line for each thing that this system lacks: what is done instead."""
    if not watch.enforces_limits():
        yield "no limit of memory: child processes are watched instead, and may overshoot"
    if not watch.has_parent_death_signal():
        yield "no signal at a parent's death: child processes look whether their parent lives"
    if locks.SOFT:
        yield "no locks of files: a file that exists stands for one; remove what a killed process left"
    if not processors.allowed():
        yield "no affinity: every processor of the machine counts, and workers share them"
    if not Path("/proc/self").exists():
        yield "no /proc: limits of containers and paths of loaded libraries are not seen"
