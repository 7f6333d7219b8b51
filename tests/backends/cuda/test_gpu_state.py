"""What NVML says of a GPU, on a double with NVML's names; what it means for a latency."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from harness.backends.cuda import gpu_state
from harness.latency.doubts import conditions_doubts, during
from harness.latency.measure import Sampling, measure


class NVMLError(Exception):
    """pynvml.NVMLError."""


class Nvml:
    """pynvml with one GPU; `silent` are the functions that it has no answer to."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVMLError = NVMLError

    def __init__(self, *silent: str, reasons: int = 0) -> None:
        self.silent, self.reasons, self.asked = silent, reasons, []

    def _answer(self, name: str, value: Any) -> Any:
        if name in self.silent:
            raise NVMLError(name)
        return value

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        self._answer("nvmlInit", None)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        self.asked.append(index)
        return self._answer("handle", "gpu")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.asked.append(uuid)
        return self._answer("handle", "gpu")

    def nvmlDeviceGetClockInfo(self, _: str, kind: int) -> int:  # noqa: N802
        return self._answer("clock", {1: 1980, 2: 3201}[kind])

    def nvmlDeviceGetPowerUsage(self, _: str) -> int:  # noqa: N802
        return self._answer("power", 120_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, _: str) -> int:  # noqa: N802
        return self._answer("limit", 700_000)

    def nvmlDeviceGetTemperature(self, *_: Any) -> int:  # noqa: N802
        return self._answer("temperature", 41)

    def nvmlDeviceGetUtilizationRates(self, _: str) -> Any:  # noqa: N802
        return self._answer("load", SimpleNamespace(gpu=87))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _: str) -> int:  # noqa: N802
        return self._answer("reasons", self.reasons)

    def nvmlDeviceGetMemoryInfo(self, _: str) -> Any:  # noqa: N802
        return self._answer("memory", SimpleNamespace(used=5 << 30))


@pytest.fixture(autouse=True)
def _all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def probe_of(monkeypatch: pytest.MonkeyPatch, nvml: Nvml) -> Any:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return gpu_state.open_probe()


def test_clocks_power_temperature_throttling_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = probe_of(monkeypatch, Nvml(reasons=0x1 | 0x4 | 0x40))
    assert probe.read() == {
        "gpu_clock_mhz": 1980,
        "gpu_memory_clock_mhz": 3201,
        "gpu_power_w": 120.5,
        "gpu_power_limit_w": 700,
        "gpu_temperature_c": 41,
        "gpu_load_percent": 87,
        "gpu_throttle_reasons": "power cap, hardware thermal slowdown",
    }
    assert probe.memory() == {"device_bytes": 5 << 30}


def test_idle_and_application_clocks_are_no_throttling() -> None:
    assert gpu_state.reasons(0x1 | 0x2) == gpu_state.reasons(0) == "none"


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = probe_of(monkeypatch, Nvml("power", "limit", "memory", "load"))
    assert set(probe.read()) == {
        "gpu_clock_mhz",
        "gpu_memory_clock_mhz",
        "gpu_temperature_c",
        "gpu_throttle_reasons",
    }
    assert probe.memory() == {}


@pytest.mark.parametrize("silent", ["nvmlInit", "handle"])
def test_without_a_driver_or_gpu_there_is_no_probe(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    assert probe_of(monkeypatch, Nvml(silent)) is None


def test_without_the_package_there_is_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_state.open_probe() is None


@pytest.mark.parametrize(("visible", "asked"), [("3", [3]), ("GPU-abc", ["GPU-abc"]), ("", [])])
def test_the_gpu_is_the_one_that_cuda_sees(
    monkeypatch: pytest.MonkeyPatch, visible: str, asked: list[object]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvml = Nvml()
    assert (probe_of(monkeypatch, nvml) is None) == (not asked)
    assert nvml.asked == asked


def test_what_was_seen_meanwhile_is_kept_as_ranges() -> None:
    states = [
        {"busy_s": 1.0, "gpu_clock_mhz": 1980, "gpu_throttle_reasons": "none"},
        {"busy_s": 2.0, "gpu_clock_mhz": 1200, "gpu_throttle_reasons": "power cap"},
    ]
    seen = during(states)
    assert seen == {"gpu_clock_mhz": [1200, 1980], "gpu_throttle_reasons": "power cap"}
    assert conditions_doubts({}, {}, seen) == (
        "throttled: power cap",
        "clocks varied: gpu_clock_mhz from 1200 to 1980 while measuring",
    )


def test_a_steady_gpu_raises_no_doubt() -> None:
    seen = during([{"gpu_clock_mhz": 1980, "gpu_throttle_reasons": "none"}] * 3)
    assert conditions_doubts({}, {}, seen) == ()
    assert during([]) == during([{"clock_mhz": 3000.0}]) == {}


def test_a_measurement_keeps_what_the_gpu_did_before_during_and_after() -> None:
    class Probe:
        clock = 2000

        def read(self) -> dict[str, float]:
            self.clock -= 100
            return {"gpu_clock_mhz": self.clock}

        def memory(self) -> dict[str, int]:
            return {"device_bytes": self.clock}

    found = measure(lambda _: None, [0], Sampling(rounds=4, max_samples=40), probe=Probe())
    assert found.conditions["before"] == {"gpu_clock_mhz": 1900}
    assert found.conditions["during"] == {"gpu_clock_mhz": [1500, 1800]}
    assert found.conditions["after"] == {"gpu_clock_mhz": 1400}
    assert any("gpu_clock_mhz from 1500 to 1800" in doubt for doubt in found.doubts)
