"""What NVML says of a GPU while something is measured: clocks, power, temperature, throttling, memory.

Through nvidia-ml-py.  What a GPU or its driver does not tell is left out; nothing is set.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from harness.backends.cuda.gpu_facts import visible_gpu

THROTTLING: Mapping[int, str] = MappingProxyType(
    {
        0x004: "power cap",
        0x008: "hardware slowdown",
        0x010: "sync boost",
        0x020: "software thermal slowdown",
        0x040: "hardware thermal slowdown",
        0x080: "power brake",
        0x100: "display clock setting",
    }
)
"""NVML's clocks event reasons that slow a GPU down.  Idle (1) and application clocks (2) are none."""
MILLI = 1e-3


class GpuProbe:
    """`harness.latency.machine.Probe` of one GPU; keys begin with `gpu_`, but for `device_bytes`."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def read(self) -> dict[str, float | str]:
        """Clocks in MHz, power in W, temperature in degrees Celsius, load, what throttles it."""
        nvml, handle = self._nvml, self._handle
        asked: dict[str, Callable[[], float | str]] = {
            "gpu_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "gpu_memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "gpu_power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) * MILLI,
            "gpu_power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) * MILLI,
            "gpu_temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "gpu_load_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "gpu_throttle_reasons": lambda: reasons(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        }
        found = {key: self._told(ask) for key, ask in asked.items()}
        return {key: value for key, value in found.items() if value is not None}

    def memory(self) -> dict[str, int]:
        """Bytes of device memory in use, by all processes."""
        used = self._told(lambda: self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        return {} if used is None else {"device_bytes": int(used)}

    def _told(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._nvml.NVMLError:  # Not every GPU tells all, and a container may forbid some.
            return None


def open_probe(index: int = 0) -> GpuProbe | None:
    """The probe of the GPU that CUDA numbers `index` in this process; None without nvidia-ml-py or driver."""
    try:
        nvml = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return None
    name = visible_gpu(index)
    try:
        nvml.nvmlInit()
        handle = None if name is None else _handle(nvml, name)
    except nvml.NVMLError:
        return None
    return None if handle is None else GpuProbe(nvml, handle)


def reasons(mask: int) -> str:
    """What throttles, in words; `none` where nothing does."""
    named = [word for bit, word in THROTTLING.items() if mask & bit]
    return ", ".join(named) or "none"


def _handle(nvml: Any, name: str) -> Any:
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name)
