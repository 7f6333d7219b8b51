"""A model tried in a process of its own before it runs in this one: a crash costs one case, not the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from harness.backends.base import Tensors
from harness.errors import RunError
from harness.graph import file as onnx_file
from harness.isolation.parent import isolated, memory_limit
from harness.paths import scratch
from harness.storage.cache import JSON, Cache

Trial = Callable[[], tuple[ir.Model, Tensors]]
"""Gives the FP32 model and a feed of it; asked only where the cache does not know the answer."""
LEVELS = ("none", "all")
"""Optimisation levels at which the FP32 model is run in this process: reference, calibration, floor."""
TIMEOUT_S = 600.0


def require_survives(name: str, trial: Trial, cache: Cache, key: Mapping[str, JSON]) -> None:
    """Raise RunError, which says how the process died, if ONNX Runtime's CPU provider dies of the FP32 model.

    A model that it refuses in words survives: whoever runs it hears them.  Tried once for each model.
    """
    cache.get_or_make("trial", key, lambda _: _tried(name, *trial()), label=f"{name} trial")


def _tried(name: str, model: ir.Model, feed: Tensors) -> Mapping[str, Any]:
    with scratch() as folder:
        path = folder / "model.onnx"
        onnx_file.write(model, path)
        try:
            said = isolated(_run, path, feed, timeout_s=TIMEOUT_S, memory_bytes=memory_limit(), reuse=True)
        except RunError as error:
            raise RunError(f"{name}: the FP32 model, tried apart: {error}") from error
    return {"said": said}


def _run(path: Path, feed: Mapping[str, Any]) -> dict[str, str]:
    """What ONNX Runtime says against the model at each level; nothing where it runs."""
    from harness.backends.onnxruntime.backend import SessionSettings, open_model

    said = {}
    for level in LEVELS:
        try:
            with open_model(path, settings=SessionSettings(level=level)) as engine:
                engine.run(feed)
        except RunError as error:
            said[level] = str(error)
    return said
