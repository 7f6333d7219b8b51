"""A model tried in a process of its own before it runs in this one: a crash costs one case, not the run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import RunError
from harness.graph import file as onnx_file
from harness.isolation.parent import isolated, memory_limit

if TYPE_CHECKING:
    from harness.engines.subject import Subject

LEVELS = ("none", "all")
"""Optimisation levels at which the FP32 model is run in this process: reference, calibration, floor."""
TIMEOUT_S = 600.0


def require_survives(subject: Subject) -> None:
    """Raise RunError, which says how the process died, if ONNX Runtime's CPU provider dies of the FP32 model.

    A model that it refuses in words survives: whoever runs it hears them.  Tried once for each model.
    """
    label = f"{subject.spec.name} trial"
    subject.cache.get_or_make("trial", subject.cpu_key, lambda _: _tried(subject), label=label)


def _tried(subject: Subject) -> Mapping[str, Any]:
    feed = subject.feeds.feed({name: part.min for name, part in subject.spec.profiles[0].shapes.items()})
    with tempfile.TemporaryDirectory(prefix="trt-harness-") as folder:
        path = Path(folder) / "model.onnx"
        onnx_file.write(subject.exact, path)
        try:
            said = isolated(_run, path, feed, timeout_s=TIMEOUT_S, memory_bytes=memory_limit(), reuse=True)
        except RunError as error:
            raise RunError(f"{subject.spec.name}: the FP32 model, tried apart: {error}") from error
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
