"""Engines between device buffers, with ONNX Runtime's CPU provider and host memory in the GPU's place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from harness.backends.cuda import presence as cuda_presence
from harness.backends.cuda.device_run import EventTimer
from harness.backends.cuda.faults import explained
from harness.backends.onnxruntime import device_engine as ort_device_engine
from harness.backends.onnxruntime.backend import OnnxRuntimeBackend, SessionSettings, run_model
from harness.backends.onnxruntime.device_engine import OrtDeviceEngine
from harness.backends.onnxruntime.session import OrtEngine, session_of
from harness.errors import BackendUnavailableError, DeviceLostError, NotHonouredError, RunError
from harness.latency.bench_device import copies, device_latencies, device_outputs
from harness.latency.measure import Sampling
from tests.helpers.device import OrtHostDevice
from tests.helpers.lowering import raw
from tests.helpers.mlp import FEEDS, made_mlp
from tests.helpers.tensorrt import write

ODD = """g (float[N, 4] x, int64 k, bool[N] m, bfloat16[2] b)
    => (float[N, 4] y, int64[K, 2] places, bool[N] n, bfloat16[2] c, int64 j) {
    y = Relu (x)  t = NonZero (x)  places = Transpose (t)  n = Not (m)
    f = Cast <to = 1> (b)  g = Neg (f)  c = Cast <to = 16> (g)  j = Neg (k)
}"""


def odd_feeds(rows: int, sign: int = 1) -> dict[str, Any]:
    x = sign * np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) - 3
    masks = np.arange(rows) % 2 == 0
    return {"x": x, "k": np.array(7), "m": masks, "b": np.array([1.5, -2], ml_dtypes.bfloat16)}


def on_host(model: ir.Model, folder: Path, device: OrtHostDevice | None = None) -> OrtDeviceEngine:
    session = session_of(write(folder, model), SessionSettings())
    return OrtDeviceEngine(session, device or OrtHostDevice(), 7, kind="cpu")


@pytest.fixture(name="engine")
def _engine(tmp_path: Path) -> Iterator[OrtDeviceEngine]:
    with on_host(raw(ODD), tmp_path) as opened:
        yield opened


def same(found: Any, feeds: Any) -> None:
    wanted = run_model(raw(ODD), feeds)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_a_run_through_device_buffers_is_the_plain_run(engine: OrtDeviceEngine) -> None:
    for rows in (1, 5, 2):
        same(engine.run(odd_feeds(rows)), odd_feeds(rows))


def test_outputs_of_a_run_are_not_overwritten_by_the_next(engine: OrtDeviceEngine) -> None:
    first = engine.run(odd_feeds(2))
    engine.run(odd_feeds(2, -1))
    same(first, odd_feeds(2))


def test_device_runs_write_what_runs_return_each_for_its_own_feed(engine: OrtDeviceEngine) -> None:
    feeds = [odd_feeds(3), odd_feeds(3, -1)]
    runs = engine.residents(feeds)
    for _ in range(2):
        for run in runs:
            run()
    for run, feed in zip(runs, feeds, strict=True):
        same(run.fetch(), feed)


def test_device_runs_copy_only_when_told(engine: OrtDeviceEngine) -> None:
    (run,) = engine.residents([odd_feeds(2)])
    device: Any = engine._device
    run.enqueue()
    assert device.queue == []
    run.start_upload()
    run.start_download()
    assert len(device.queue) == len(run.inputs) + len(run.outputs)
    assert run.nbytes["upload"] == 2 * 4 * 4 + 8 + 2 + 4
    device.synchronize(7)


@pytest.mark.parametrize("end", ["closed", "other runs"])
def test_runs_that_did_not_wait_are_followed_by_one_that_waits(
    engine: OrtDeviceEngine, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Or ONNX Runtime's CUDA provider aborts the process when the session of an LSTM ends."""
    (run,) = engine.residents([odd_feeds(2)])
    run.enqueue()
    device: Any = engine._device
    waited: list[str] = []
    start, synchronize = engine._start, device.synchronize
    monkeypatch.setattr(engine, "_start", lambda *a: (waited.append(_waits(engine, a)), start(*a)))
    monkeypatch.setattr(device, "synchronize", lambda *a: (waited.append("synchronize"), synchronize(*a)))
    if end == "closed":
        engine.close()
    else:
        engine.residents([])
    assert waited == ["0", "synchronize"]


def _waits(engine: OrtDeviceEngine, started: Any) -> str:
    options: str = engine._options(started[1]).get_run_config_entry("disable_synchronize_execution_providers")
    return options


def test_only_device_runs_do_not_wait(engine: OrtDeviceEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    plain = engine._options
    monkeypatch.setattr(
        engine, "_options", lambda graph, wait=True: (asked.append(wait), plain(graph, wait=wait))[1]
    )
    engine.run(odd_feeds(2))
    assert asked == [True]
    engine.residents([odd_feeds(2)])
    assert asked == [True, True, False]


def test_an_engine_whose_device_is_lost_closes(
    engine: OrtDeviceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> None:
        raise RunError("the device is lost")

    (run,) = engine.residents([odd_feeds(2)])
    monkeypatch.setattr(engine, "_start", lost)
    engine.close()
    assert engine.session is None
    with pytest.raises(RunError):
        run.enqueue()


def test_memory_of_device_runs_is_used_again(engine: OrtDeviceEngine) -> None:
    device: Any = engine._device
    engine.residents([odd_feeds(4), odd_feeds(4)])
    used = device.used
    same(engine.residents([odd_feeds(2), odd_feeds(4)])[0].fetch(), odd_feeds(2))
    assert device.used == used


def test_device_runs_of_a_cuda_graph_have_ids_of_their_own_and_plain_runs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph replays the addresses that it was captured with."""
    with on_host(made_mlp(), tmp_path) as engine:
        engine._graphs = True
        asked: list[int] = []
        plain = engine._options
        monkeypatch.setattr(
            engine, "_options", lambda graph, **how: (asked.append(graph), plain(-1, **how))[1]
        )
        engine.run(FEEDS)
        engine.residents([FEEDS, FEEDS])
    assert [graph for graph in asked if graph != -1] == [1, 2]
    assert asked[0] == -1


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, r"inputs are \['x'\]"),
        ({"x": FEEDS["x"].astype(np.float64)}, "float32, fed was float64"),
        ({"x": FEEDS["x"][:, :7]}, "ONNX Runtime: .*"),
    ],
)
def test_feeds_that_do_not_fit_are_errors(tmp_path: Path, feeds: Any, says: str) -> None:
    with on_host(made_mlp(), tmp_path) as engine, pytest.raises(RunError, match=says):
        engine.run(feeds)


def test_too_little_device_memory_is_told_and_the_engine_goes_on(tmp_path: Path) -> None:
    with on_host(made_mlp(), tmp_path, OrtHostDevice(limit=1000)) as engine:
        with pytest.raises(RunError, match="asked for 32000 bytes, 1000 of 1000 bytes are free"):
            engine.run({"x": np.zeros((1000, 8), np.float32)})
        assert engine.run({"x": FEEDS["x"][:1]})["y"].shape[0] == 1


def test_closing_closes_the_device_after_the_session_and_once(tmp_path: Path) -> None:
    device = OrtHostDevice()
    engine = on_host(made_mlp(), tmp_path, device)
    engine.close()
    engine.close()
    assert device.closed == 1
    with pytest.raises(RunError, match="closed"):
        engine.run(FEEDS)


def test_device_runs_end_with_their_engine_or_with_the_next_ones(tmp_path: Path) -> None:
    with on_host(made_mlp(), tmp_path) as engine:
        (first,) = engine.residents([FEEDS])
        (second,) = engine.residents([FEEDS])
        with pytest.raises(RunError, match="the device run is over"):
            first()
    with pytest.raises(RunError, match="the device run is over"):
        second()


def opened_on(model: ir.Model, folder: Path, device: OrtHostDevice) -> OrtEngine:
    return OrtDeviceEngine.on(device, write(folder, model), SessionSettings())


def test_strings_stay_in_host_memory(tmp_path: Path) -> None:
    device = OrtHostDevice()
    model = raw("g (string[N] s) => (string[N] t) { t = Identity (s) }")
    with opened_on(model, tmp_path, device) as engine:
        assert engine.run({"s": np.array(["a"], object)})["t"].tolist() == ["a"]
        assert not hasattr(engine, "residents")
    assert device.closed == 1


def test_a_session_on_another_stream_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        def get_provider_options(self) -> Any:
            return {"CPUExecutionProvider": {"user_compute_stream": "0"}}

    device = OrtHostDevice()
    monkeypatch.setattr(ort_device_engine, "session_of", lambda *_: Elsewhere())
    with pytest.raises(NotHonouredError, match="a stream of its own"):
        opened_on(made_mlp(), tmp_path, device)
    assert device.closed == 1


def test_events_come_in_pairs_and_are_used_again() -> None:
    device = OrtHostDevice()
    timer = EventTimer(device, 7)
    for _ in range(2):
        for _ in range(3):
            timer.start()
            timer.stop()
        assert timer.times_s() == pytest.approx([1e-3] * 3)
    assert timer.times_s() == []
    assert len(device.times) == 6


class TestOpening:
    """Which engine the backend opens for which face."""

    @pytest.fixture(autouse=True)
    def _double(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[Any] = []
        module = "harness.backends.onnxruntime.backend"
        face = (Path("m.onnx"), SessionSettings("CUDAExecutionProvider", {"use_tf32": "0"}))
        monkeypatch.setattr(OnnxRuntimeBackend, "_face", lambda *_: face)
        monkeypatch.setattr(f"{module}.device.open_device", lambda *a: self.opened.append(a) or "gpu")
        monkeypatch.setattr(f"{module}.device.installed", lambda: ("pycuda",))
        monkeypatch.setattr(f"{module}.OrtDeviceEngine.on", lambda *a: a)
        monkeypatch.setattr(f"{module}.OrtEngine.open", lambda *a: ("plain", *a))
        self.patch = monkeypatch

    def load(self, face: Any = "deployed", provider: str = "CUDAExecutionProvider", **fields: Any) -> Any:
        return OnnxRuntimeBackend(provider, **fields).load(Path(), face)

    def test_the_deployed_face_runs_between_device_buffers_of_the_binding_asked_for(self) -> None:
        assert self.load(cuda="pycuda", provider_options={"device_id": "1"})[0] == "gpu"
        assert self.opened == [("pycuda", 1)]

    def test_the_verified_face_and_the_cpu_do_not(self) -> None:
        assert self.load("verified")[0] == self.load(provider="CPUExecutionProvider")[0] == "plain"

    def test_a_cuda_graph_is_a_provider_option_of_the_deployed_face(self) -> None:
        assert self.load(cuda_graph=True)[2].provider_options["enable_cuda_graph"] == "1"
        assert "enable_cuda_graph" not in self.load()[2].provider_options
        details = OnnxRuntimeBackend("CUDAExecutionProvider", cuda_graph=True)._cuda_details()
        assert details == {"cuda_binding": "pycuda", "cuda_graph": "on"}

    def test_a_model_that_cannot_be_a_cuda_graph_says_so(self) -> None:
        def refuse(*_: Any) -> None:
            raise RunError("the model has control flow nodes")

        self.patch.setattr("harness.backends.onnxruntime.backend.OrtDeviceEngine.on", refuse)
        with pytest.raises(NotHonouredError, match="no CUDA graph of this model: the model has control"):
            self.load(cuda_graph=True)

    def test_without_a_binding_there_is_the_plain_session_but_no_graph(self) -> None:
        self.patch.setattr("harness.backends.onnxruntime.backend.device.installed", lambda: ())
        assert self.load()[0] == "plain"
        with pytest.raises(BackendUnavailableError, match="a CUDA graph needs device buffers: pip install"):
            self.load(cuda_graph=True)


WORDS = [
    (
        "BFCArena: Failed to allocate memory for requested buffer of size 12345",
        "asked for 12345 bytes, 1 of 2",
    ),
    ("Available memory of 5 is smaller than requested bytes of 67", "asked for 67 bytes, 1 of 2"),
    ("CUDA failure 2: out of memory ; GPU=0", "out of device memory, 1 of 2 bytes are free: CUDA failure 2"),
    ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", "out of device memory, 1 of 2"),
    ("some other failure", "^some other failure$"),
]


@pytest.mark.parametrize(("said", "means"), WORDS)
def test_memory_that_ran_out_inside_the_runtime_is_told(said: str, means: str) -> None:
    error = explained(said, lambda: (1, 2))
    assert not isinstance(error, DeviceLostError)
    with pytest.raises(RunError, match=means):
        raise error


@pytest.mark.parametrize(
    "said",
    [
        "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
        "cuMemFree: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure",
        "cuCtxSynchronize failed: unspecified launch failure",
        "CUDA failure 214: uncorrectable ECC error encountered",
    ],
)
def test_a_lost_device_is_an_error_of_its_own(said: str) -> None:
    found = explained(said, lambda: pytest.fail("a lost device is not asked"))
    assert isinstance(found, DeviceLostError)
    assert "later cases in it fail too" in str(found)


class Libcuda:
    """`libcuda` with `count` GPUs, or one that does not start."""

    def __init__(self, count: int, status: int = 0) -> None:
        self.count, self.status = count, status

    def cuInit(self, _: int) -> int:  # noqa: N802 - CUDA's name
        return self.status

    def cuDeviceGetCount(self, place: Any) -> int:  # noqa: N802
        place._obj.value = self.count
        return 0

    def cuGetErrorString(self, _: int, place: Any) -> int:  # noqa: N802
        place._obj.value = b"words of CUDA"
        return 0


@pytest.mark.parametrize(
    ("driver", "visible", "says"),
    [
        (Libcuda(1), None, None),
        (Libcuda(1), "2", None),
        (Libcuda(0, 100), "", "CUDA sees no GPU: CUDA_VISIBLE_DEVICES = '' hides every GPU"),
        (Libcuda(0, 100), "9", "CUDA sees no GPU: CUDA_VISIBLE_DEVICES = '9' decides"),
        (Libcuda(0, 100), None, "CUDA sees no GPU"),
        (Libcuda(0, 803), None, "the NVIDIA driver does not start: cuInit says 803: words of CUDA"),
        (
            OSError("libcuda.so.1: cannot open"),
            None,
            "there is no NVIDIA driver here: libcuda.so.1: cannot open",
        ),
    ],
)
def test_a_gpu_that_is_not_there_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, driver: Any, visible: str | None, says: str | None
) -> None:
    def load() -> Any:
        if isinstance(driver, OSError):
            raise driver
        return driver

    monkeypatch.setattr(cuda_presence, "_driver", load)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cuda_presence.gpu_absence() == says
    if says is None:
        assert cuda_presence.gpu_absence(1) is not None


def test_the_backend_says_so_before_any_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.backends.onnxruntime.backend.require_provider", lambda _: None)
    monkeypatch.setattr("harness.backends.onnxruntime.backend.gpu_absence", lambda _: "CUDA sees no GPU")
    with pytest.raises(BackendUnavailableError, match="onnxruntime: CUDAExecutionProvider: CUDA sees no GPU"):
        OnnxRuntimeBackend("CUDAExecutionProvider").info()


def test_the_benchmark_measures_runs_and_copies_of_a_real_session_apart(tmp_path: Path) -> None:
    sampling = Sampling(rounds=5, max_samples=50, max_time_s=0.02, warmup_time_s=0.02)
    feeds = [FEEDS, {"x": -FEEDS["x"]}]
    with on_host(made_mlp(), tmp_path) as engine:
        found = device_latencies(engine, feeds, 0, sampling, {"cuda_graph": "off"})
        outputs = device_outputs(engine, feeds, 0)
    assert set(found) == {"resident", "upload", "download"}
    assert all(len(one.device_samples_s) == len(one.samples_s) for one in found.values())
    told = copies(found)
    assert told is not None
    assert told["upload"]["nbytes"] == FEEDS["x"].nbytes
    assert found["resident"].settings["copies"] == "none"
    for feed, output in zip(feeds, outputs, strict=True):
        np.testing.assert_array_equal(output["y"], run_model(made_mlp(), feed)["y"])
