"""The device interface: on a real GPU where there is one; on a double of the driver for what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

from harness.backends.cuda import device, device_pycuda
from harness.backends.cuda.device import Binding, Device, open_device
from harness.backends.cuda.device_cuda import CudaPythonDevice
from harness.backends.cuda.device_pycuda import PycudaDevice
from harness.errors import BackendUnavailableError, RunError


@pytest.fixture(name="gpu", params=get_args(Binding))
def _gpu(request: pytest.FixtureRequest) -> Iterator[Device]:
    if why := device.absence(request.param):
        pytest.skip(why)
    opened = open_device(request.param)
    yield opened
    opened.close()


def test_what_goes_up_comes_down(gpu: Device) -> None:
    sent, got = (gpu.pinned(1000) for _ in range(2))
    sent[:] = np.random.default_rng(0).integers(0, 256, 1000)
    got[:] = 0
    stream, pointer = gpu.create_stream(), gpu.allocate(1000)
    gpu.upload(pointer, sent, stream)
    gpu.download(got, pointer, stream)
    gpu.synchronize(stream)
    np.testing.assert_array_equal(got, sent)
    gpu.free(pointer)


def test_nothing_has_a_pointer_too(gpu: Device) -> None:
    stream, pointer = gpu.create_stream(), gpu.allocate(0)
    assert pointer != 0
    assert gpu.pinned(0).nbytes == 0
    gpu.upload(pointer, gpu.pinned(0), stream)
    gpu.synchronize(stream)
    gpu.free(pointer)


def test_the_gpu_is_described(gpu: Device) -> None:
    info = gpu.info()
    assert info.name
    assert len(info.compute_capability.split(".")) == len(info.cuda.split(".")) == 2
    free, total = gpu.memory()
    assert 0 < free <= total


def test_events_take_time(gpu: Device) -> None:
    stream, start, end = gpu.create_stream(), gpu.create_event(), gpu.create_event()
    data = gpu.pinned(1 << 24)
    pointer = gpu.allocate(data.nbytes)
    gpu.record(start, stream)
    gpu.upload(pointer, data, stream)
    gpu.record(end, stream)
    assert 1e-5 < gpu.elapsed_s(start, end) < 10


def test_memory_that_is_not_there_is_told(gpu: Device) -> None:
    _, total = gpu.memory()
    with pytest.raises(
        RunError, match=rf"out of device memory: asked for {2 * total} bytes, \d+ of {total} bytes"
    ):
        gpu.allocate(2 * total)
    pointer = gpu.allocate(16)
    gpu.free(pointer)


def test_closing_twice_is_closing_once(gpu: Device) -> None:
    gpu.allocate(16)
    gpu.create_stream()
    gpu.create_event()
    gpu.close()
    gpu.close()


def test_a_device_opens_again_after_it_was_closed(gpu: Device) -> None:
    gpu.close()
    again = open_device("cuda-python" if isinstance(gpu, CudaPythonDevice) else "pycuda")
    again.free(again.allocate(16))
    again.close()


def test_without_a_binding_the_error_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "installed", lambda: ())
    with pytest.raises(
        BackendUnavailableError, match="neither cuda-python nor pycuda is installed: pip install"
    ):
        open_device()
    assert "pip install" in (device.absence() or "")


def test_the_binding_asked_for_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "installed", lambda: ("cuda-python",))
    with pytest.raises(BackendUnavailableError, match="pycuda is not installed"):
        open_device("pycuda")


class Status(int):
    """A status of the driver API."""

    name = property(
        lambda self: {0: "CUDA_SUCCESS", 2: "CUDA_ERROR_OUT_OF_MEMORY"}.get(self, "CUDA_ERROR_UNKNOWN")
    )


class Driver:
    """cuda-python's driver module: every call succeeds, but those in `fails`; `called` has their names."""

    def __init__(self, **fails: int) -> None:
        self.fails, self.called = fails, []
        self.CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
        self.CUevent_flags = SimpleNamespace(CU_EVENT_DEFAULT=0)

    def cuGetErrorString(self, _: int) -> tuple[int, bytes]:  # noqa: N802 - CUDA's name
        return 0, b"words of CUDA"

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> tuple[Any, ...]:
            self.called.append(name)
            status = Status(self.fails.get(name, 0))
            given = {"cuMemGetInfo": (10, 20), "cuEventElapsedTime": (1500.0,)}.get(
                name, (256 + len(self.called),)
            )
            return (status, *given)

        return call


def test_every_failing_call_names_itself_and_cudas_words() -> None:
    for call in ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent"):
        with pytest.raises(RunError, match=f"{call}: CUDA_ERROR_UNKNOWN: words of CUDA"):
            CudaPythonDevice(Driver(**{call: 999}), 0)
    opened = CudaPythonDevice(Driver(cuMemAlloc=1, cuStreamCreate=1), 0)
    for action in (lambda: opened.allocate(1), opened.create_stream):
        with pytest.raises(RunError, match="words of CUDA"):
            action()


def test_an_allocation_that_does_not_fit_says_what_is_free() -> None:
    with pytest.raises(RunError, match="asked for 99 bytes, 10 of 20 bytes are free"):
        CudaPythonDevice(Driver(cuMemAlloc=2), 0).allocate(99)


def test_cuda_is_torn_down_in_order_the_context_last() -> None:
    driver = Driver()
    opened = CudaPythonDevice(driver, 0)
    opened.create_event()
    opened.create_stream()
    opened.pinned(0)
    opened.allocate(4)
    driver.called.clear()
    opened.close()
    opened.close()
    freed = ["cuMemFree", "cuMemFreeHost", "cuEventDestroy", "cuStreamDestroy", "cuCtxPopCurrent"]
    assert driver.called == [*freed, "cuDevicePrimaryCtxRelease"]


def test_event_times_are_seconds() -> None:
    opened = CudaPythonDevice(Driver(), 0)
    assert opened.elapsed_s(opened.create_event(), opened.create_event()) == 1.5


class CudaError(Exception):
    """pycuda.driver.Error."""


class CudaMemoryError(CudaError):
    """pycuda.driver.MemoryError."""


@pytest.fixture(name="_no_context_is_retained", autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "gpu" not in request.fixturenames:
        monkeypatch.setattr(device_pycuda, "_retained", {})


class PycudaContext:
    """A primary context as pycuda has it: detaching it, where it is not current, leaves it current."""

    def __init__(self, stack: list[str]) -> None:
        self._stack, self.detached = stack, 0

    def push(self) -> None:
        self._stack.append("primary")

    def pop(self) -> None:
        self._stack.pop()

    def detach(self) -> None:
        self.detached += 1
        self._stack.append("primary")


def test_with_pycuda_what_was_current_is_so_again() -> None:
    stack = ["foreign"]
    retained: list[PycudaContext] = []

    def retain() -> PycudaContext:
        retained.append(PycudaContext(stack))
        return retained[-1]

    driver = SimpleNamespace(
        Error=CudaError,
        init=lambda: None,
        Device=lambda _: SimpleNamespace(retain_primary_context=retain),
    )
    for _ in range(2):
        opened = PycudaDevice(driver, 0)
        assert stack == ["foreign", "primary"]
        opened.close()
        opened.close()
        assert stack == ["foreign"]
    assert len(retained) == 1, "the context is retained once in a process"


def test_pycudas_errors_become_run_errors() -> None:
    def no_memory(_: int) -> None:
        raise CudaMemoryError("out of memory")

    def no_gpu(_: int) -> None:
        raise CudaError("no device")

    context = SimpleNamespace(push=lambda: None)
    driver = SimpleNamespace(
        Error=CudaError,
        MemoryError=CudaMemoryError,
        init=lambda: None,
        Device=lambda _: SimpleNamespace(retain_primary_context=lambda: context),
        mem_alloc=no_memory,
        mem_get_info=lambda: (10, 20),
    )
    with pytest.raises(RunError, match="asked for 5 bytes, 10 of 20 bytes are free"):
        PycudaDevice(driver, 0).allocate(5)
    driver.Device = no_gpu
    with pytest.raises(RunError, match="no device"):
        PycudaDevice(driver, 0)
