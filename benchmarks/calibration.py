"""Calibration against the inference it needs, and against ONNX Runtime's calibrators: time and peak memory.

    python -m benchmarks.calibration [FOLDER]

Each run is a process of its own.  `bare` opens a session that returns the tensors to calibrate and runs every
sample, nothing else; ours and `bare` alternate, and the median of the ratios of neighbours counts, in seconds
of all CPUs: on a shared machine the clock says little.  Both are from the normalised model in memory to the
ranges.  Memory is the peak of the process less what it was before.
FOLDER, by default a temporary one, holds the generated models.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import folder
from benchmarks.memory import peak_bytes
from benchmarks.models import IMAGE, MODELS, TOKENS

SAMPLES, FEW = 32, 8
ROUNDS = 5
SLOWEST_RATIO = 1.3
"""Allowed time of entropy calibration over that of bare inference."""
GROWTH_RATIO = 1.1
"""Allowed peak memory with `SAMPLES` over that with `FEW`."""
Times = tuple[float, float]
Feeds = Callable[[int], Iterator[dict[str, Any]]]


def images(count: int) -> Iterator[dict[str, Any]]:
    """Noise in the shape of images."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield {"image": rng.standard_normal((1, 3, IMAGE, IMAGE), dtype=np.float32)}


def sentences(count: int) -> Iterator[dict[str, Any]]:
    """Random tokens, all of them visible."""
    for seed in range(count):
        ids = np.random.default_rng(seed).integers(0, 30522, (1, TOKENS))
        yield {"ids": ids, "mask": np.ones_like(ids)}


def feeds_of(name: str) -> Feeds:
    """The samples of a model."""
    return sentences if name == "bert_base" else images


class Samples:
    """Samples that iterate afresh each time."""

    def __init__(self, feeds: Feeds, count: int) -> None:
        self._feeds, self._count = feeds, count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._feeds(self._count)


def prepared(source: str) -> tuple[Any, list[str]]:
    """The normalised model and the tensors that INT8 needs ranges of."""
    from harness.graph import file as onnx_file
    from harness.lowering.lower import quantizable
    from harness.lowering.passes.normalise import normalise
    from harness.precision import Precision, PrecisionPlan

    model = normalise(onnx_file.read(source))
    nodes = quantizable(model, PrecisionPlan(Precision.INT8))
    return model, sorted({name for node in nodes for name in node.activations})


def bare(source: str, feeds: Samples) -> Times:
    """Inference alone, with the tensors returned."""
    from harness.backends.onnxruntime.backend import SessionSettings, open_model

    model, tensors = prepared(source)
    inputs = {value.name for value in model.graph.inputs}
    start = measured()
    with open_model(
        model, [t for t in tensors if t not in inputs], settings=SessionSettings(level="basic")
    ) as engine:
        for feed in feeds:
            engine.run(feed)
    return elapsed(start)


def ours(method: str) -> Callable[[str, Samples], Times]:
    """This project's calibration by a method."""

    def run(source: str, feeds: Samples) -> Times:
        from harness.calibration.calibrate import calibrate
        from harness.spec.model_spec import CalibrationSpec

        model, tensors = prepared(source)
        start = measured()
        calibrate(model, feeds, tensors, CalibrationSpec(method=method, samples=SAMPLES))
        return elapsed(start)

    return run


def theirs(method: str) -> Callable[[str, Samples], Times]:
    """ONNX Runtime's calibrator of the same name."""

    def run(source: str, feeds: Samples) -> Times:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self._rest = iter(feeds)

            def get_next(self) -> dict[str, Any] | None:
                return next(self._rest, None)

        start = measured()
        augmented = str(Path(source).with_suffix(".augmented.onnx"))
        calibrator = create_calibrator(
            source,
            ["Conv", "MatMul", "Gemm"],
            augmented_model_path=augmented,
            calibrate_method=getattr(CalibrationMethod, method),
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()
        return elapsed(start)

    return run


RUNS: dict[str, Callable[[str, Samples], Times]] = {
    "bare": bare,
    "entropy": ours("entropy"),
    "minmax": ours("minmax"),
    "ort_minmax": theirs("MinMax"),
    "ort_entropy": theirs("Entropy"),
}
_before = 0


def measured() -> Times:
    """The clock and the CPUs' time now; memory is counted from here."""
    global _before  # noqa: PLW0603
    _before = peak_bytes()
    return time.perf_counter(), time.process_time()


def elapsed(start: Times) -> Times:
    """Seconds by the clock and of all CPUs since `start`."""
    return time.perf_counter() - start[0], time.process_time() - start[1]


def child(name: str, source: str, who: str, samples: str) -> None:
    """Run one kind and print its figures as JSON."""
    clock, cpu = RUNS[who](source, Samples(feeds_of(name), int(samples)))
    print("\n" + json.dumps({"s": clock, "cpu_s": cpu, "bytes": peak_bytes() - _before}))


def run(name: str, source: Path, who: str, samples: int = SAMPLES) -> dict[str, float]:
    """The figures of one process."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.calibration",
        "--child",
        name,
        str(source),
        who,
        str(samples),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(name: str, who: str, found: dict[str, float], base: dict[str, float]) -> None:
    """Print one row."""
    ratios = f"{found['s'] / base['s']:5.2f} / {found['cpu_s'] / base['cpu_s']:5.2f} x bare"
    seconds = f"{found['s']:7.2f} / {found['cpu_s']:7.2f} s"
    print(f"{name:10} {who:12} {seconds} {ratios} {found['bytes'] / 1e6:8.0f} MB peak", flush=True)


def compare(name: str, folder: Path) -> bool:
    """Print one model's figures; whether they are within bounds."""
    source = folder / f"{name}.onnx"
    if not source.exists():
        source.write_bytes(MODELS[name]().SerializeToString())
    pairs = [(run(name, source, "bare"), run(name, source, "entropy")) for _ in range(ROUNDS)]
    middle = sorted(pairs, key=lambda pair: pair[1]["cpu_s"] / pair[0]["cpu_s"])[ROUNDS // 2]
    ratio = middle[1]["cpu_s"] / middle[0]["cpu_s"]
    growth = middle[1]["bytes"] / run(name, source, "entropy", FEW)["bytes"]
    line(name, "bare", middle[0], middle[0])
    line(name, "entropy", middle[1], middle[0])
    for who in ("minmax", "ort_minmax", "ort_entropy"):
        line(name, who, run(name, source, who), middle[0])
    print(f"{name:10} entropy: {ratio:.2f} x bare CPU seconds (at most {SLOWEST_RATIO})", end="; ")
    print(f"peak with {SAMPLES} samples {growth:.2f} x that with {FEW} (at most {GROWTH_RATIO})", flush=True)
    return ratio <= SLOWEST_RATIO and growth <= GROWTH_RATIO


def main(folder: Path) -> int:
    """Compare on all models; 1 if a bound is broken."""
    results = [compare(name, folder) for name in MODELS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        with folder(__file__, __doc__) as models:
            sys.exit(main(models))
