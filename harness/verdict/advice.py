"""Advice with the case's own names in it, so that its commands run as they stand."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

from harness.precision import Precision
from harness.spec.model_spec import ModelSpec
from harness.verdict.triage import Triage


def addressed(triage: Triage, spec: ModelSpec, precision: Precision) -> Triage:
    """`triage` with SPEC and CASE in its advice replaced."""
    flag, file = ("--trt-spec", spec.path) if spec.path else ("--trt-onnx", spec.model.onnx)
    if file is None:
        return triage
    where = shlex.quote(short(Path(file)))
    case = f"{shlex.quote(f'{spec.name}-{precision}')} {flag} {where}"
    limit = None if spec.path else spec.of(precision).tolerance.limit  # No file holds it: the command must.
    allowed = f"{where} --tolerance {limit:g}" if limit else where
    return replace(triage, advice=triage.advice.replace("SPEC", allowed).replace("CASE", case))


def short(path: Path) -> str:
    """`path` as seen from the current folder, where it lies below it."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_absolute() and path.is_relative_to(here) else str(path)
