"""Command lines of polygraphy and trtexec that show what a bundle shows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.reproduce.trtexec import Case, Release, commands
from harness.spec.model_spec import Profile, ShapeRange

if TYPE_CHECKING:
    from harness.reproduce.failure import Failure

LOADER = '''\
"""The inputs of the failure, for polygraphy's --data-loader-script."""

import json
from pathlib import Path

import numpy as np


def load_data():
    """Yield the one set of inputs."""
    here = Path(__file__).resolve().parent
    names = json.loads((here / "case.json").read_text(encoding="utf-8"))["inputs"]
    arrays = np.load(here / "inputs.npz")
    yield {name: arrays[key] for name, key in names.items()}
'''
ALLOWED = "allowed: mean |d| = limit * mean |r| of each output, which is the harness's mean relative error"
REDUCE = "the smallest part of which TensorRT and ONNX Runtime disagree, by polygraphy, on random inputs:"


def command_lines(failure: Failure, case: Mapping[str, Any]) -> str:
    """The text of commands.txt."""
    lines = [
        "# Run these in the bundle's folder.",
        "python reproduce.py",
        "",
        f"# {ALLOWED}",
        shlex.join(_reference()),
        shlex.join(_compared(failure, case)),
        "",
        *([f"# {REDUCE}", shlex.join(_reduce(failure, case)), ""] if case["runtime"] == "tensorrt" else []),
        "# The same model with trtexec:",
        *_trtexec(failure),
    ]
    return "\n".join(lines)


def _reference() -> list[str]:
    plain = ["--graph-optimization-level", "ORT_DISABLE_ALL", "--data-loader-script", "data_loader.py"]
    return ["polygraphy", "run", "model.onnx", "--onnxrt", *plain, "--save-outputs", "expected.json"]


def _runner(failure: Failure, case: Mapping[str, Any]) -> list[str]:
    if case["runtime"] == "onnxruntime":
        names = [name for name, _ in case["providers"]]
        return ["--onnxrt", "--providers", *names, "--graph-optimization-level", case["optimization"]]
    flags = [f"--{flag.lower()}" for flag in case["builder_flags"] if flag in ("FP16", "BF16", "INT8")]
    strong = [] if failure.options.typing == "weak" else ["--strongly-typed"]
    return ["--trt", *strong, *flags, *(["--tf32"] if case["tf32"] else [])]


def _compared(failure: Failure, case: Mapping[str, Any]) -> list[str]:
    judged = ["--check-error-stat", "mean", "--rtol", "0", "--atol", *_tolerances(failure)]
    loaded = ["--data-loader-script", "data_loader.py", "--load-outputs", "expected.json"]
    return ["polygraphy", "run", str(case["ran"]), *_runner(failure, case), *loaded, *judged]


def _tolerances(failure: Failure) -> Iterator[str]:
    """`name:atol` of each output; one for all where a name is not one that polygraphy can take."""
    mean = {name: float(np.abs(array.astype(np.float64)).mean()) for name, array in failure.expected.items()}
    found = {name: failure.terms.tolerance.limit * size for name, size in mean.items()}
    if any(":" in name or " " in name for name in found):
        return iter([f"{min(found.values()):.6g}"])
    return (f"{name}:{size:.6g}" for name, size in found.items())


def _reduce(failure: Failure, case: Mapping[str, Any]) -> list[str]:
    check = ["polygraphy", "run", "polygraphy_debug.onnx", *_runner(failure, case), "--onnxrt"]
    judged = ["--check-error-stat", "mean", "--rtol", f"{failure.terms.tolerance.limit:g}"]
    shapes = [f"{name}:{list(array.shape)}" for name, array in failure.feeds.items()]
    reduced = ["polygraphy", "debug", "reduce", str(case["ran"]), "-o", "reduced.onnx", "--mode=bisect"]
    return [*reduced, "--model-input-shapes", *shapes, "--check", *check, *judged]


def _trtexec(failure: Failure) -> list[str]:
    shapes = {name: array.shape for name, array in failure.feeds.items()}
    ranges = {name: ShapeRange(min=shape, opt=shape, max=shape) for name, shape in shapes.items()}
    case = Case(
        Path("lowered.onnx"),
        Path("engine.plan"),
        failure.plan.precision,
        (Profile(shapes=ranges),),
        failure.options,
        _dynamic(failure),
        kept=tuple(failure.built.manifest.got.get("fp32_kept", ())),
    )
    found = commands(case, _release(failure), [(0, shapes)])
    loaded = ",".join(f"{name}:t{k}.bin" for k, name in enumerate(shapes))
    run = [(*found.timings[0], f"--loadInputs={loaded}", "--exportOutput=outputs.json")]
    return str(replace(found, timings=tuple(run), remarks=())).splitlines()


def _release(failure: Failure) -> Release:
    """The trtexec of the TensorRT that built the engine; without one, the newest that knows the typing."""
    manifest = failure.built.manifest
    version = str(manifest.versions["runtime"]) if manifest.backend == "tensorrt" else ""
    old = int(version.partition(".")[0] or 11) < 11
    return 10 if old or failure.options.typing == "weak" else 11


def _dynamic(failure: Failure) -> tuple[str, ...]:
    inputs = {value.name or "": value.shape for value in failure.normalised.graph.inputs}
    fixed = {name: s is not None and all(isinstance(size, int) for size in s) for name, s in inputs.items()}
    return tuple(name for name in failure.feeds if not fixed.get(name, True))
