"""The harness's latency against a bare event-timed loop, on the same session, in turn, in one run.

    python benchmarks/gpu/timing.py --out FILE.json [--cuda cuda-python pycuda]

The bare loop knows nothing of the harness: ONNX Runtime's own I/O binding with its own device memory, events
of cuda-python, a list.  Blocks of both alternate.  Both see device times (between events) and host times
(start until the stream is done).  Target: p50 within 2 %, device and host.  Copies, host-to-host latency,
GPU memory, clocks, power and throttling come with it, and how much CUDA graphs save.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import here, options, table, where, write

TARGET = 0.02
ROUNDS, BLOCK, WARM = 20, 50, 60
HEADS = (
    "model", "precision", "batch", "CUDA through", "graph", "device p50: harness", "bare", "differs",
    "host p50: harness", "bare", "differs", "host to host p50", "up", "down",
)  # fmt: skip
POINTS = (
    ("mlp", "fp32", 1), ("resnet50", "fp32", 1), ("resnet50", "fp32", 16), ("resnet50", "fp16", 16),
    ("bert_base", "fp16", 8),
)  # fmt: skip


class Bare:
    """A loop as one would write it by hand, on the stream that the session computes on."""

    def __init__(self, session: Any, stream: int, feeds: dict[str, Any]) -> None:
        import onnxruntime as ort
        from cuda.bindings import driver

        self.cuda, self.session, self.stream = driver, session, driver.CUstream(stream)
        self.binding = session.io_binding()
        self.values = {name: ort.OrtValue.ortvalue_from_numpy(a, "cuda", 0) for name, a in feeds.items()}
        for name, value in self.values.items():
            self.binding.bind_ortvalue_input(name, value)
        names = [output.name for output in session.get_outputs()]
        for name in names:
            self.binding.bind_output(name, "cuda", 0)
        self.options = ort.RunOptions()
        self.options.add_run_config_entry("gpu_graph_id", "-1")
        self.options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        session.run_with_iobinding(self.binding, self.options)
        driver.cuStreamSynchronize(self.stream)
        self.outputs = list(self.binding.get_outputs())
        for name, value in zip(names, self.outputs, strict=True):
            self.binding.bind_ortvalue_output(name, value)
        self.start, self.end = (driver.cuEventCreate(0)[1] for _ in range(2))

    def device(self, count: int) -> list[float]:
        """Seconds between events around each of `count` runs."""
        cuda, times = self.cuda, []
        for _ in range(count):
            cuda.cuEventRecord(self.start, self.stream)
            self.session.run_with_iobinding(self.binding, self.options)
            cuda.cuEventRecord(self.end, self.stream)
            cuda.cuStreamSynchronize(self.stream)
            times.append(cuda.cuEventElapsedTime(self.start, self.end)[1] * 1e-3)
        return times

    def host(self, count: int) -> list[float]:
        """Seconds of each of `count` runs until the stream is done."""
        times = []
        for _ in range(count):
            begun = time.perf_counter()
            self.session.run_with_iobinding(self.binding, self.options)
            self.cuda.cuStreamSynchronize(self.stream)
            times.append(time.perf_counter() - begun)
        return times


def engine_folder(model: str, precision: str, batch: int, folder: Path, provider: str) -> tuple[Path, Any]:
    """A built engine, and feeds."""
    import numpy as np

    from benchmarks.models import MODELS
    from harness.backends.base import BuildRequest
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
    from harness.graph import file as onnx_file
    from harness.lowering.lower import lower
    from harness.lowering.passes.normalise import normalise
    from harness.precision import Precision, PrecisionPlan
    from harness.spec.model_spec import BuildSpec, Profile, ShapeRange

    source = folder / f"{model}.onnx"
    if not source.is_file():
        source.write_bytes((MODELS | {"mlp": mlp})[model]().SerializeToString())
    loaded, rng = normalise(onnx_file.read(source)), np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for value in loaded.graph.inputs:
        shape = [size if isinstance(size, int) else batch for size in value.shape]
        floating = value.dtype.is_floating_point()
        feeds[value.name] = (
            rng.standard_normal(shape).astype(np.float32) if floating else np.ones(shape, value.dtype.numpy())
        )
    ranges = {name: ShapeRange(min=a.shape, opt=a.shape, max=a.shape) for name, a in feeds.items()}
    lowered = lower(loaded, PrecisionPlan(Precision(precision)))
    place = folder / f"{model}-{precision}-{batch}"
    place.mkdir()
    request = BuildRequest(model, lowered, (Profile(shapes=ranges),), BuildSpec())
    OnnxRuntimeBackend(provider, isolate=False).build(request, place)
    return place, feeds


def mlp() -> Any:
    """Three small layers: a call as short as they come."""
    from onnx import TensorProto, helper

    from benchmarks.models import Builder

    b, x = Builder(0), "x"
    for _ in range(3):
        x = b.op("Relu", b.op("MatMul", x, b.weight(256, 256)))
    return b.model([helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 256])], "y", ["N", 256])


def measured(engine: Any, feeds: dict[str, Any], batch: int) -> dict[str, Any]:
    """Harness and bare loop in turn, then what the harness measures besides."""
    from harness.backends.cuda.gpu_state import open_probe
    from harness.latency.bench_device import device_latencies
    from harness.latency.machine import MachineProbe
    from harness.latency.measure import Sampling, measure

    probe = MachineProbe(open_probe())
    one = Sampling(rounds=1, max_samples=BLOCK, max_time_s=1.0, warmup_time_s=0.05)
    bare = Bare(engine.session, engine._stream, feeds)
    (run,) = engine.residents([feeds])
    timer = engine.timer()

    def harness() -> Any:
        return measure(
            lambda r: r(), [run], one,
            probe=probe, device_timer=timer, enqueue=lambda r: r.enqueue(), batch=batch,
        )  # fmt: skip

    bare.device(WARM)
    for _ in range(WARM):
        run()
    ours: dict[str, list[float]] = {"device": [], "host": []}
    theirs: dict[str, list[float]] = {"device": [], "host": []}

    def our_turn() -> None:
        found = harness()
        ours["device"] += found.device_samples_s
        ours["host"] += found.samples_s

    def their_turn() -> None:
        theirs["host"] += bare.host(BLOCK)
        theirs["device"] += bare.device(BLOCK)

    turns: list[Callable[[], None]] = [our_turn, their_turn]
    for number in range(ROUNDS):
        for turn in turns if number % 2 == 0 else reversed(turns):
            turn()
    p50 = {
        who: {kind: statistics.median(times) for kind, times in found.items()}
        for who, found in (("harness", ours), ("bare", theirs))
    }
    sampling = Sampling(max_time_s=1.0)
    apart = device_latencies(engine, [feeds], 0, sampling, {}, batch=batch, probe=probe)
    host = measure(engine.run, [feeds], replace(sampling, rounds=10), probe=probe, batch=batch)
    return {
        "p50_s": p50,
        "differs": {kind: p50["harness"][kind] / p50["bare"][kind] - 1 for kind in ("device", "host")},
        "samples": {kind: (len(ours[kind]), len(theirs[kind])) for kind in ours},
        "host_to_host_p50_s": host.p50_s,
        "copies": {
            name: {
                "device_p50_s": apart[name].device_p50_s,
                "p50_s": apart[name].p50_s,
                "nbytes": apart[name].settings["nbytes"],
            }
            for name in ("upload", "download")
        },
        "conditions": apart["resident"].conditions,
        "memory_bytes": apart["resident"].memory_bytes,
        "doubts": apart["resident"].doubts,
    }


def row(point: tuple[str, str, int], binding: str, graph: bool, found: dict[str, Any]) -> list[object]:
    """One line of the table, times in microseconds."""
    p50, copies = found["p50_s"], found["copies"]
    cells: list[object] = [*point, binding, "yes" if graph else "no"]
    for kind in ("device", "host"):
        cells += [*(f"{p50[who][kind] * 1e6:.1f} us" for who in ("harness", "bare"))]
        cells.append("" if graph else f"{found['differs'][kind]:+.1%}")
    cells.append(f"{found['host_to_host_p50_s'] * 1e6:.1f} us")
    for name in ("upload", "download"):
        part = copies[name]
        cells.append(f"{part['device_p50_s'] * 1e6:.1f} us ({part['nbytes']} B)")
    return cells


def main() -> int:
    """Print and keep the figures; 1 where p50 differs by more than 2 %."""
    args = options(
        __doc__,
        cuda={"nargs": "+", "default": None, "help": "cuda-python, pycuda (default: those installed)"},
    )
    from harness.backends.cuda import device
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend

    print(here(), flush=True)
    bindings = args.cuda or list(device.installed())
    figures, rows, good = [], [], True
    with tempfile.TemporaryDirectory() as name:
        for number, point in enumerate(POINTS):
            place, feeds = engine_folder(*point, Path(name), args.provider)
            for binding in bindings if number < 2 else bindings[:1]:
                for graph in (False, True):
                    backend = OnnxRuntimeBackend(args.provider, cuda=binding, cuda_graph=graph)
                    with backend.load(place, "deployed") as engine:
                        found = measured(engine, feeds, point[2])
                    figures.append({"point": point, "cuda": binding, "graph": graph, **found})
                    rows.append(row(point, binding, graph, found))
                    print(" | ".join(map(str, rows[-1])), found["doubts"], flush=True)
                    # The bare loop never replays a graph, so only runs without one are held to it.
                    good &= graph or max(map(abs, found["differs"].values())) <= TARGET
                    write(args.out, {"where": where(), "points": figures, "good": good})
    print(table(HEADS, rows))
    print("GPU while measuring ResNet-50:", figures[min(4, len(figures) - 1)]["conditions"].get("during"))
    print(f"p50 within {TARGET:.0%} of the bare loop" if good else "MISSED: p50 differs by more")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
