"""The spec that a user's word for a model means: a spec, the folder of one, or an ONNX file by itself."""

from __future__ import annotations

import os
from pathlib import Path

from harness.data.override import Override
from harness.drafting.draft import spec_from_onnx
from harness.errors import UsageError
from harness.paths import no_file
from harness.spec.file import find_spec, read_spec
from harness.spec.model_spec import ModelSpec


def is_model(path: str | os.PathLike[str]) -> bool:
    """Whether `path` names an ONNX file, by its suffix."""
    return Path(path).suffix.lower() == ".onnx"


def resolve(path: str | os.PathLike[str], override: Override | None = None) -> ModelSpec:
    """The spec at `path`, or one drafted for the ONNX file `path`, with `override` in it.

    Raises UsageError: SpecError, ModelError, or where the override does not fit.
    """
    drafted, override = is_model(path), override or Override()
    if drafted and (why := no_file(Path(path))):
        raise UsageError(f"{path}: {why}")
    spec = spec_from_onnx(path) if drafted else read_spec(find_spec(path))
    return override.applied(spec, drafted=drafted)
