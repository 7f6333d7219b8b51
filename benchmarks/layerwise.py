"""All intermediate tensors of a model compared with its FP16 version: our cost and Polygraphy's.

    python -m benchmarks.layerwise [MODEL.onnx ...]     by default ResNet-50-sized and BERT-base-sized models

The measure is CPU seconds of whole processes over those of a bare one, which marks the tensors of both models
as outputs, opens and runs both with ONNX Runtime, keeps what they return and computes nothing.  The target is
at most 1.3 for ours.  Other models are fed random normal numbers, batch 1 and 640 for other dynamic axes.
Peak memory is that of the process; `pieces` is ours again with an eighth of the memory that all tensors need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import MODELS

ROUNDS = 3
TARGET = 1.3
MIB = 2**20


def prepare(source: Path, folder: Path) -> None:
    """Write what the runs read: both models, names, feeds, plain outputs."""
    from harness import lowering, onnx_file
    from harness.backends.base import BuildRequest
    from harness.backends.onnxruntime import OnnxRuntimeBackend, open_model
    from harness.lowering.normalise import normalise
    from harness.precision import Precision, PrecisionPlan
    from harness.spec import BuildSpec, Profile, ShapeRange

    model = normalise(onnx_file.read(source))
    lowered = lowering.lower(model, PrecisionPlan(Precision.FP16))
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
    from harness.layer_graph import places_of

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


def ours(folder: Path, memory_bytes: int) -> None:
    """The layer-wise comparison."""
    from harness import onnx_file
    from harness.backends.onnxruntime import OnnxRuntimeBackend
    from harness.backends.ort_slices import open_slice
    from harness.layers import NOTHING, LayerQuestion, compare_layers
    from harness.precision import TOLERANCES, Precision

    model, backend = onnx_file.read(folder / "reference.onnx"), OnnxRuntimeBackend()
    question = LayerQuestion(
        model,
        dict.fromkeys(json.loads((folder / "offered.json").read_text()), 2),
        Precision.FP16,
        TOLERANCES[Precision.FP16],
        dict(np.load(folder / "feeds.npz")),
        lambda tensors, given=NOTHING: open_slice(model, tensors, given),
        lambda tensors, given=NOTHING: backend.load_slice(folder / "engine", tensors, given),
        dict(np.load(folder / "outputs.npz")),
        backend.instrumentation,
        memory_bytes,
        sliced=True,
    )
    found = compare_layers(question)
    print(len(found.layers), found.groups)


class Figures(dict[str, list[tuple[float, float]]]):
    """CPU seconds and peak bytes of each run of each contender."""

    def run(self, who: str, *command: str) -> str:
        """Run a command to its end and note what it took."""
        with tempfile.TemporaryFile("w+") as text:
            started = subprocess.Popen(command, stdout=text, stderr=text)
            _, status, usage = os.wait4(started.pid, 0)
            started.returncode = os.waitstatus_to_exitcode(status)
            text.seek(0)
            said = text.read()
        if status and "Comparing Output" not in said:  # Polygraphy ends with 1 where outputs differ
            raise SystemExit(f"{' '.join(command)}: {said}")
        scale = 1 if sys.platform == "darwin" else 1024
        self.setdefault(who, []).append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale))
        return said

    def seconds(self, who: str, runs: int = 1) -> float:
        """The least CPU seconds of a contender that takes `runs` processes."""
        times = [s for s, _ in self[who]]
        return min(sum(times[i : i + runs]) for i in range(0, len(times), runs))

    def peak(self, who: str) -> float:
        """The largest resident size, bytes."""
        return max(b for _, b in self[who])


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
        pieces = figures.run("pieces", *_command("ours", folder, size // 4))
        if turn == 0:
            polygraphy(figures, folder)
    base = figures.seconds("bare")
    ratios = {who: figures.seconds(who, 2 if who == "polygraphy" else 1) / base for who in figures}
    print(f"{source.stem}: tensors and groups {said.split()}, in pieces {pieces.split()}")
    for who, ratio in ratios.items():
        print(f"  {who:10} {ratio * base:7.2f} CPU s  {ratio:5.2f}x  peak {figures.peak(who) / MIB:6.0f} MiB")
    return ratios["ours"] <= TARGET


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


def main(models: list[Path]) -> int:
    """Measure all models; 1 if ours is beyond the target on one."""
    good = True
    with tempfile.TemporaryDirectory() as root:
        if not models:
            models = [Path(root) / f"{name}.onnx" for name in MODELS]
            subprocess.run([sys.executable, "-m", "benchmarks.models", root], check=True, capture_output=True)
        for model in models:
            with tempfile.TemporaryDirectory(dir=root) as folder:
                good &= measure(model, Path(folder))
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        sys.exit(main([Path(name) for name in sys.argv[1:]]))
