"""All intermediate tensors of a model compared with its FP16 version: our cost and Polygraphy's.

The measure is CPU seconds over those of a bare process, which marks the tensors of both models as outputs,
opens and runs both with ONNX Runtime, keeps what they return and computes nothing; freeing it is not counted.
`whole` counts the whole process; `work` leaves out imports, which cost as much for a small model as for a
large one, and is the figure that must be at most 1.3: the exit code is 1 if it is more for one of the models.
Of several runs, which take turns, the least counts.  Peak memory is that of the process; `pieces` is ours
again with a thirty-second of the memory that all tensors need.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import arguments
from benchmarks.models import MODELS

ROUNDS = 5
TARGET = 1.3
MIB = 2**20
DETECTOR = Path(__file__).parents[1] / "suites" / "models" / "ppocrv4_det" / "spec.toml"


def prepare(source: Path, folder: Path) -> None:
    """Write what the runs read: both models, names, feeds, plain outputs."""
    from harness.backends.base import BuildRequest
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend, open_model
    from harness.graph import file as onnx_file
    from harness.lowering.lower import lower
    from harness.lowering.passes.normalise import normalise
    from harness.precision import Precision, PrecisionPlan
    from harness.spec.model_spec import BuildSpec, Profile, ShapeRange

    model = normalise(onnx_file.read(source))
    lowered = lower(model, PrecisionPlan(Precision.FP16))
    feeds = _feeds(model)
    np.savez(folder / "feeds.npz", **feeds)
    onnx_file.write(model, folder / "reference.onnx")
    names = _names(model)
    (folder / "offered.json").write_text(json.dumps(names))
    ranges = {name: ShapeRange(min=a.shape, opt=a.shape, max=a.shape) for name, a in feeds.items()}
    request = BuildRequest("model", lowered, (Profile(shapes=ranges),), BuildSpec())
    engine = folder / "engine"
    engine.mkdir()
    OnnxRuntimeBackend(isolate=False).build(request, engine)
    with OnnxRuntimeBackend().load(engine) as opened:
        np.savez(folder / "outputs.npz", **opened.run(feeds))
    with open_model(model, names) as opened:
        size = sum(array.nbytes for array in opened.run(feeds).values())
    (folder / "bytes.json").write_text(json.dumps(size))


def _names(model: Any) -> list[str]:
    from harness.layers.graph import places_of

    return [place.tensor for place in places_of(model)]


def _feeds(model: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        sizes = [
            size if isinstance(size, int) else 640 if axis else 1 for axis, size in enumerate(value.shape)
        ]
        if value.dtype.is_floating_point():
            feeds[value.name] = rng.standard_normal(sizes).astype(value.dtype.numpy())
        else:
            feeds[value.name] = np.ones(sizes, value.dtype.numpy())
    return feeds


def bare(folder: Path) -> None:
    """Two runs of ONNX Runtime that keep all tensors, as one would write them by hand."""
    import onnx
    import onnxruntime as ort

    start = time.process_time()
    feeds, kept = dict(np.load(folder / "feeds.npz")), []
    names = json.loads((folder / "offered.json").read_text())
    levels = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    for path, level in zip(("reference.onnx", "engine/emulation.onnx"), levels, strict=True):
        model, options = onnx.load(folder / path), ort.SessionOptions()
        present = {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
        options.graph_optimization_level = level
        session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        kept.append(session.run(names, feeds))
    print(time.process_time() - start)


def ours(folder: Path, memory_bytes: int) -> None:
    """The layer-wise comparison."""
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
    from harness.backends.onnxruntime.slices import SliceOpener
    from harness.graph import file as onnx_file
    from harness.layers.compare import LayerQuestion, compare_layers
    from harness.precision import Precision
    from harness.spec.terms import Terms

    start = time.process_time()
    model, backend = onnx_file.read(folder / "reference.onnx"), OnnxRuntimeBackend()
    question = LayerQuestion(
        model,
        dict.fromkeys(json.loads((folder / "offered.json").read_text()), 2),
        Terms.of(Precision.FP16),
        dict(np.load(folder / "feeds.npz")),
        SliceOpener(model),
        backend.slices(folder / "engine"),
        dict(np.load(folder / "outputs.npz")),
        backend.instrumentation,
        memory_bytes,
        sliced=True,
    )
    found = compare_layers(question)
    print(time.process_time() - start, len(found.layers), found.groups)


@dataclass
class Figures:
    """What each run of a contender took: CPU seconds of the process, of its work, and peak bytes."""

    runs: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)

    def run(self, who: str, *command: str) -> str:
        """Run a command to its end and note what it took; returns what it printed."""
        with tempfile.TemporaryFile("w+") as text:
            started = subprocess.Popen(command, stdout=text, stderr=text)
            _, status, usage = os.wait4(started.pid, 0)
            started.returncode = os.waitstatus_to_exitcode(status)
            text.seek(0)
            said = text.read()
        if status and "Comparing Output" not in said:  # Polygraphy ends with 1 where outputs differ
            raise SystemExit(f"{' '.join(command)}: {said}")
        scale = 1 if sys.platform == "darwin" else 1024
        whole = usage.ru_utime + usage.ru_stime
        work = float(said.split()[0]) if who != "polygraphy" else whole
        self.runs.setdefault(who, []).append((whole, work, usage.ru_maxrss * scale))
        return said

    def least(self, who: str, which: int) -> float:
        """The least of a figure over runs; of Polygraphy, which takes two processes, their sum."""
        figures = [run[which] for run in self.runs[who]]
        return sum(figures) if who == "polygraphy" else min(figures)

    def line(self, who: str) -> str:
        """The row of one contender."""
        whole, work = (self.least(who, which) for which in (0, 1))
        ratios = whole / self.least("bare", 0), work / self.least("bare", 1)
        told = "" if who == "polygraphy" else f"   work {work:6.2f} s {ratios[1]:6.2f}x"
        peak = max(run[2] for run in self.runs[who]) / MIB
        return f"  {who:10} whole {whole:6.2f} s {ratios[0]:6.2f}x   peak {peak:5.0f} MiB{told}"


def polygraphy(figures: Figures, folder: Path) -> None:
    """Both models with all outputs marked; the second run compares with the saved outputs of the first."""
    tool = [str(Path(sys.executable).with_name("polygraphy")), "run"]
    shared = ["--onnxrt", "--onnx-outputs", "mark", "all", "--load-inputs", str(folder / "inputs.json")]
    saved = str(folder / "saved.json")
    save = ["--save-outputs", saved]
    figures.run("polygraphy", *tool, str(folder / "reference.onnx"), *shared, *save)
    load = ["--load-outputs", saved]
    figures.run("polygraphy", *tool, str(folder / "engine" / "emulation.onnx"), *shared, *load)


def measure(source: Path, folder: Path) -> bool:
    """Print one model's figures; whether ours are within the target."""
    _child("prepare", source, folder)
    _child("inputs", folder)
    size, figures = json.loads((folder / "bytes.json").read_text()), Figures()
    said = ""
    for turn in range(ROUNDS):
        figures.run("bare", *_command("bare", folder))
        said = figures.run("ours", *_command("ours", folder, 512 * MIB))
        pieces = figures.run("pieces", *_command("ours", folder, size // 16))
        if turn == 0:
            polygraphy(figures, folder)
    print(f"{source.stem}: tensors and groups {said.split()[1:]}, in pieces {pieces.split()[1:]}")
    for who in figures.runs:
        print(figures.line(who), flush=True)
    ratio = figures.least("ours", 1) / figures.least("bare", 1)
    if ratio > TARGET:
        print(f"{source.stem}: {ratio:.2f}x is more than {TARGET}x")
    return ratio <= TARGET


def inputs(folder: Path) -> None:
    """The feeds in Polygraphy's own format."""
    from polygraphy.json import save_json

    save_json([dict(np.load(folder / "feeds.npz"))], str(folder / "inputs.json"))


def _command(what: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "benchmarks.layerwise", "--child", what, *map(str, arguments)]


def _child(what: str, *arguments: object) -> None:
    subprocess.run(_command(what, *arguments), check=True)


def child(what: str, *arguments: str) -> None:
    """One step, in a process of its own."""
    if what == "prepare":
        prepare(Path(arguments[0]), Path(arguments[1]))
    elif what == "inputs":
        inputs(Path(arguments[0]))
    elif what == "bare":
        bare(Path(arguments[0]))
    else:
        ours(Path(arguments[0]), int(arguments[1]))


def defaults(folder: Path) -> list[Path]:
    """Models that are generated into `folder`, and the detector where it is fetched."""
    from harness.spec.file import read_spec
    from harness.spec.stored import stored_path

    command = [sys.executable, "-m", "benchmarks.models", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    generated, packaged = [folder / f"{name}.onnx" for name in MODELS], read_spec(DETECTOR).model.packaged
    detector = stored_path(packaged) if packaged else None
    if detector and detector.is_file():
        return [*generated, detector]
    print("PP-OCR det is left out, it is not fetched: make zoo")
    return generated


def main(models: list[Path]) -> int:
    """Measure all models; 1 if ours is beyond the target on one."""
    with tempfile.TemporaryDirectory() as root:
        good = True
        for model in models or defaults(Path(root)):
            with tempfile.TemporaryDirectory(dir=root) as folder:
                good &= measure(model, Path(folder))
    return 0 if good else 1


TOLD = (
    "fed random normal numbers, batch 1 and 640 for other dynamic axes"
    " (default: ResNet-50-sized, BERT-base-sized, and PP-OCR det where it is fetched)"
)


def model_file(name: str) -> Path:
    """A file that is there, for argparse."""
    if not Path(name).is_file():
        raise argparse.ArgumentTypeError(f"{name!r}: no such file")
    return Path(name)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        files = {"nargs": "*", "type": model_file, "metavar": "MODEL.onnx", "help": TOLD}
        sys.exit(main(arguments(__file__, __doc__, models=files).models))
