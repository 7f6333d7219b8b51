"""What lies beside a plan file: from what it was built, by which version, for which GPU, and its layers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.backends.tensorrt.builder.build import BuildTask, Built, NetworkCode
from harness.backends.tensorrt.layers import EngineLayer, EngineTensor
from harness.backends.tensorrt.network import NetworkLayer, NetworkTensor
from harness.backends.tensorrt.origin import Origin
from harness.errors import RunError
from harness.precision import Precision
from harness.spec.errors import one_line
from harness.spec.model_spec import BuildSpec, Profile

PLAN = "engine.plan"
ONNX = "model.onnx"
TASK = "build.json"
LAYERS = "layers.json"
CALIBRATION = "calibration.cache"


def write_record(folder: Path, task: BuildTask, built: Built, origin: Origin) -> None:
    """Write what `read_task`, `read_origin` and `read_layers` read."""
    data = {
        "origin": asdict(origin),
        "precision": task.precision,
        "profiles": [profile.model_dump() for profile in task.profiles],
        "options": task.options.model_dump(),
        "kept": task.kept,
        "base": str(task.base),
        "network": _network_code(task.network),
        "barred": task.barred,
        "inner": task.inner,
    }
    (folder / TASK).write_text(json.dumps(data, indent=1))
    if built.calibration:
        (folder / CALIBRATION).write_text(built.calibration)
    layers = {"network": [asdict(x) for x in built.network], "engine": [asdict(x) for x in built.engine]}
    (folder / LAYERS).write_text(json.dumps(layers))


def read_task(folder: Path) -> BuildTask:
    """The task that the plan in `folder` came from.  Raises RunError if the folder has none."""
    with _record(folder / TASK) as data:
        return BuildTask(
            precision=Precision(data["precision"]),
            profiles=tuple(Profile.model_validate(profile) for profile in data["profiles"]),
            options=BuildSpec.model_validate(data["options"]),
            kept=tuple(data["kept"]),
            base=Path(data["base"]),
            network=_to_network_code(data["network"]),
            barred=tuple(data["barred"]),
            inner=tuple(data["inner"]),
        )


def _network_code(code: NetworkCode | None) -> dict[str, str | None] | None:
    if code is None:
        return None
    return {"function": code.function, "weights": str(code.weights) if code.weights else None}


def _to_network_code(data: dict[str, str | None] | None) -> NetworkCode | None:
    if data is None:
        return None
    return NetworkCode(data["function"] or "", Path(data["weights"]) if data["weights"] else None)


def read_origin(folder: Path) -> Origin:
    """Who built the plan in `folder`.  Raises RunError if the folder does not say."""
    with _record(folder / TASK) as data:
        return Origin(**data["origin"])


def read_layers(folder: Path) -> tuple[tuple[NetworkLayer, ...], tuple[EngineLayer, ...]]:
    """Layers of the network and of the engine in `folder`.  Raises RunError if the folder has none."""
    with _record(folder / LAYERS) as data:
        return tuple(map(_network_layer, data["network"])), tuple(map(_engine_layer, data["engine"]))


@contextlib.contextmanager
def _record(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON data of `path`; RunError where it cannot be read, or not taken."""
    try:
        yield json.loads(path.read_text())
    except OSError as error:
        raise RunError(f"{path}: not the record of a TensorRT engine: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not the record of a TensorRT engine: {one_line(error)}") from error


def _network_layer(data: dict[str, Any]) -> NetworkLayer:
    inputs, outputs = (
        tuple(NetworkTensor(t["name"], t["dtype"], tuple(t["shape"]), t["holds_shape"]) for t in data[key])
        for key in ("inputs", "outputs")
    )
    return NetworkLayer(data["name"], data["type"], data["node"], inputs, outputs)


def _engine_layer(data: dict[str, Any]) -> EngineLayer:
    inputs, outputs, constants = (
        tuple(EngineTensor(**t) for t in data[key]) for key in ("inputs", "outputs", "constants")
    )
    nodes = tuple(data["nodes"])
    return EngineLayer(data["name"], data["type"], data["tactic"], nodes, inputs, outputs, constants)
