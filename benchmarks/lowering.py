"""FP16 lowering, from file to file, against ONNX Runtime's own converter: time and peak memory.

    python -m benchmarks.lowering [FOLDER]

Each run is a process of its own; runs of both alternate.  Time is from reading the file to the lowered file
written, imports left out.  Memory is the peak of the process less its peak after the imports, over the size
of the model.  FOLDER, by default a temporary one, holds the generated models.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.command import folder
from benchmarks.memory import peak_bytes
from benchmarks.models import MODELS

ROUNDS = 3
SLOWEST_RATIO = 1.0
MEMORY_RATIO = 3.0


def ours(source: str, target: str) -> float:
    """Read, normalise, lower, write; seconds."""
    from harness.graph import file as onnx_file
    from harness.lowering.lower import lower
    from harness.lowering.passes.normalise import normalise
    from harness.precision import Precision, PrecisionPlan

    _ready()
    start = time.perf_counter()
    lowered = lower(normalise(onnx_file.read(source)), PrecisionPlan(Precision.FP16))
    onnx_file.write(lowered.model, target)
    return time.perf_counter() - start


def theirs(source: str, target: str) -> float:
    """Load, convert, save with onnxruntime.transformers.float16; seconds."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _ready()
    start = time.perf_counter()
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    return time.perf_counter() - start


_baseline = 0


def _ready() -> None:
    global _baseline  # noqa: PLW0603
    from harness.lowering.formats import half, int8  # noqa: F401
    from harness.lowering.passes import normalise  # noqa: F401

    _baseline = peak_bytes()


def child(who: str, source: str, target: str) -> None:
    """Run one of the two and print its figures as JSON."""
    seconds = {"ours": ours, "theirs": theirs}[who](source, target)
    print(json.dumps({"s": seconds, "bytes": peak_bytes() - _baseline}))


def run(who: str, source: Path, target: Path) -> dict[str, float]:
    """The figures of one process."""
    command = [sys.executable, "-m", "benchmarks.lowering", "--child", who, str(source), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, folder: Path) -> bool:
    """Print one model's figures; whether they are within bounds."""
    source, target = folder / f"{name}.onnx", folder / "lowered.onnx"
    if not source.exists():
        source.write_bytes(MODELS[name]().SerializeToString())
    figures: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        for who, found in figures.items():
            found.append(run(who, source, target))
    seconds = {who: statistics.median(f["s"] for f in found) for who, found in figures.items()}
    size = source.stat().st_size
    memory = {who: max(f["bytes"] for f in found) / size for who, found in figures.items()}
    ratio = seconds["ours"] / seconds["theirs"]
    print(
        f"{name} ({size / 1e6:.0f} MB): {seconds['ours']:.2f} s / {seconds['theirs']:.2f} s = {ratio:.2f}",
        end="; ",
    )
    print(f"peak memory {memory['ours']:.2f} / {memory['theirs']:.2f} times the model")
    return ratio <= SLOWEST_RATIO and memory["ours"] <= MEMORY_RATIO


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
