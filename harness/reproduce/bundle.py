"""A folder and a zip file that reproduce one failure without this project.

model.onnx        the FP32 model that made expected.npz, with ONNX Runtime and no optimisation
lowered.onnx      what the backend was given: the precision plan in the graph
emulation.onnx    what ran, where the engine is the emulation on ONNX Runtime's CPU provider
inputs.npz, expected.npz, actual.npz   members t0, t1, ... ; case.json has their names
case.json         what reproduce.py reads: files, names, options, what is allowed
manifest.json     the engine's manifest;  environment.json: versions and machine
failure.txt       the failure in words
reproduce.py      shows it with numpy and the runtime alone
commands.txt      polygraphy and trtexec command lines that show the same
data_loader.py    the inputs, for polygraphy
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness import __version__
from harness.comparison.compare import bounds
from harness.errors import UsageError
from harness.graph import file as onnx_file
from harness.options import Options
from harness.report.environment import environment
from harness.report.plain import dumps
from harness.reproduce.commands import LOADER, command_lines
from harness.reproduce.failure import Failure

SCRIPTS = Path(__file__).parent
LEVELS = {"none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "all": "ORT_ENABLE_ALL"}


def write(failure: Failure, folder: Path, options: Options, *, force: bool = False) -> Path:
    """Write the bundle into `folder` and beside it as a zip file, whose path is returned.

    Raises UsageError where there is something already, unless `force`.
    """
    archive = folder.with_name(f"{folder.name}.zip")
    for taken in (folder, archive):
        if taken.exists() and not force:
            raise UsageError(f"{taken}: is there already; --force overwrites it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            fresh = Path(name) / folder.name
            fresh.mkdir()
            _fill(failure, fresh, options)
            packed = shutil.make_archive(str(Path(name) / "bundle"), "zip", name, folder.name)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.replace(folder)
            Path(packed).replace(archive)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error}") from error
    return archive


def _fill(failure: Failure, folder: Path, options: Options) -> None:
    onnx_file.write(failure.normalised, folder / "model.onnx")
    onnx_file.write(onnx_file.read(failure.built.folder / "model.onnx"), folder / "lowered.onnx")
    emulation = failure.built.folder / "emulation.onnx"
    if emulation.is_file():
        onnx_file.write(onnx_file.read(emulation), folder / "emulation.onnx")
    for name, arrays in (
        ("inputs", failure.feeds),
        ("expected", failure.expected),
        ("actual", failure.actual),
    ):
        np.savez(
            folder / f"{name}.npz", **{f"t{k}": _plain(array) for k, array in enumerate(arrays.values())}
        )
    for k, array in enumerate(failure.feeds.values()):
        _bound(array).tofile(folder / f"t{k}.bin")
    case = describe(failure)
    script = "script_onnxruntime.py" if case["runtime"] == "onnxruntime" else "script_tensorrt.py"
    shutil.copyfile(SCRIPTS / script, folder / "reproduce.py")
    texts = {
        "case.json": dumps(case, indent=1),
        "manifest.json": dumps(failure.built.manifest.to_json(), indent=1),
        "environment.json": dumps(environment(options), indent=1),
        "failure.txt": failure.text,
        "commands.txt": command_lines(failure, case),
        "data_loader.py": LOADER.rstrip("\n"),
    }
    for name, text in texts.items():
        (folder / name).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def describe(failure: Failure) -> dict[str, Any]:
    """What reproduce.py needs to know: JSON data."""
    return {
        "label": failure.label,
        "place": failure.place,
        "harness": __version__,
        "precision": str(failure.plan.precision),
        "verdict": failure.triage.verdict,
        "mre": failure.found.mre,
        "fails": not failure.found.quality,
        "nodes": failure.nodes,
        "nodes_of_model": failure.of,
        "inputs": {name: f"t{k}" for k, name in enumerate(failure.feeds)},
        "shapes": {name: list(array.shape) for name, array in failure.feeds.items()},
        "outputs": [_output(failure, k, name) for k, name in enumerate(failure.expected)],
        **_runtime(failure),
    }


def _output(failure: Failure, index: int, name: str) -> dict[str, Any]:
    rule = failure.terms.rule(name)
    exact = rule.compare == "exact" or failure.expected[name].dtype.kind in "iub"
    allowed = asdict(bounds(failure.terms.tolerance, failure.plan.precision, rule))
    return {"name": name, "key": f"t{index}", "exact": exact, "scale": rule.scale, "allowed": allowed}


def _runtime(failure: Failure) -> Mapping[str, Any]:
    manifest, options = failure.built.manifest, failure.options
    if manifest.backend != "onnxruntime":
        return {
            "runtime": "tensorrt",
            "module": manifest.backend,
            "ran": "lowered.onnx",
            "typing": options.typing,
            "tf32": options.tf32 or manifest.precision == "tf32",
            "builder_flags": _weak_flags(failure) if options.typing == "weak" else [],
            "kept": list(manifest.got.get("fp32_kept", ())),
        }
    record = json.loads((failure.built.folder / "engine.json").read_bytes())
    file, level = record["faces"]["verified"]
    cpu = manifest.provider == "CPUExecutionProvider"
    return {
        "runtime": "onnxruntime",
        "ran": "emulation.onnx" if file == "emulation.onnx" else "lowered.onnx",
        "optimization": LEVELS[level],
        "providers": [
            [manifest.provider, record["provider_options"]],
            *([] if cpu else [["CPUExecutionProvider", {}]]),
        ],
    }


def _weak_flags(failure: Failure) -> list[str]:
    words = str(failure.plan.precision).upper().split("+")
    flags = [word for word in words if word in ("FP16", "BF16", "INT8", "TF32")]
    return [*flags, *(["OBEY_PRECISION_CONSTRAINTS"] if failure.plan.fp32_nodes else [])]


def _bound(array: Any) -> Any:
    """What trtexec copies into an input as it is; TensorRT makes FP64 inputs FP32."""
    if array.dtype.hasobject:
        return _plain(array)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _plain(array: Any) -> Any:
    """NumPy's own types alone, so that no pickle and no other package is needed to read it."""
    if array.dtype.hasobject:
        return array.astype(str)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
