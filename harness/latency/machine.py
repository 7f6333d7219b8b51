"""What the machine does while something is measured: clocks, throttling, load by others, memory."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

import psutil

from harness import processors
from harness.isolation.start import NEUTRAL, environment, tool

THROTTLE_COUNT = Path("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count")


class Probe(Protocol):
    """Reads the state of a machine or a device; `harness.latency.doubts` knows the keys.

    `clock_mhz`, `throttle_count` and `busy_s` (CPU seconds of all processes), `own_s` (of this
    process), `wall_s`, `cpus`; a device adds keys with a prefix of its own, as `gpu_clock_mhz`,
    `gpu_throttle_reasons`.
    """

    def read(self) -> Mapping[str, float | str]:
        """The state now; keys that cannot be known here are left out."""

    def memory(self) -> Mapping[str, int]:
        """Bytes in use now, by what uses them, as `process_bytes`, `device_bytes`."""


class MachineProbe:
    """The CPU and this process, through psutil, and `device` beside them where there is one."""

    def __init__(self, device: Probe | None = None) -> None:
        self._process = psutil.Process()
        self._device = device

    def read(self) -> dict[str, float | str]:
        """See `Probe.read`."""
        times, own = psutil.cpu_times(), self._process.cpu_times()
        state: dict[str, float | str] = {
            "wall_s": time.monotonic(),
            "busy_s": sum(times) - times.idle - getattr(times, "iowait", 0.0) - _counted_twice(times),
            "own_s": own.user + own.system,
            "cpus": float(psutil.cpu_count() or 1),
        }
        frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
        if frequency is not None and frequency.current > 0:
            state["clock_mhz"] = round(frequency.current, 1)
        throttled = _number_in(THROTTLE_COUNT)
        if throttled is not None:
            state["throttle_count"] = throttled
        return {**state, **(self._device.read() if self._device else {})}

    def memory(self) -> dict[str, int]:
        """See `Probe.memory`."""
        own = {"process_bytes": int(self._process.memory_info().rss)}
        return {**own, **(self._device.memory() if self._device else {})}


def threads() -> dict[str, str]:
    """Thread settings of this process that libraries read: CPUs it may use and `OMP_NUM_THREADS`."""
    return {"cpus": str(processors.usable()), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "unset")}


@cache
def memory_speed() -> str:
    """Type and speed of the memory modules, as `DDR5 4800 MT/s`; empty where the system does not tell.

    Read from the firmware's tables (SMBIOS type 17), which an administrator alone may on most systems.
    """
    try:
        done = subprocess.run(
            [tool("dmidecode") or "dmidecode", "-t", "17"],
            cwd=NEUTRAL, env=environment(), capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    told = [line.strip().partition(": ") for line in done.stdout.splitlines()]
    kinds = sorted({value for key, _, value in told if key == "Type" and "Unknown" not in value})
    speeds = sorted({v for key, _, v in told if key == "Configured Memory Speed" and v[:1].isdigit()})
    return " ".join([*kinds, *speeds])


def _counted_twice(times: object) -> float:
    """Linux counts guests' time in `user` and `nice` as well."""
    return float(getattr(times, "guest", 0.0)) + float(getattr(times, "guest_nice", 0.0))


def _number_in(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
