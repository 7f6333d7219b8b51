"""Advice: its command asks what the case was asked, wherever that stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.precision import Precision
from harness.spec.model_spec import ModelSpec
from harness.verdict.advice import addressed
from harness.verdict.triage import SEARCH, Triage


@pytest.mark.parametrize("path", [None, Path("net/spec.toml")])
@pytest.mark.parametrize("limit", [None, 1e-4])
def test_a_limit_that_no_file_holds_stands_in_the_command(path: Path | None, limit: float | None) -> None:
    own = {"fp16": {"tolerance": {"limit": limit}}} if limit else {}
    inputs = {
        "inputs": {"x": {"dtype": "float32", "data": {"generator": "normal"}}},
        "profiles": [{"shapes": {"x": [1]}}],
    }
    spec = ModelSpec.model_validate({"name": "net", "model": {"onnx": "m.onnx"}, "precision": own, **inputs})
    spec._path = path
    said = addressed(Triage("precision-limited", advice=SEARCH.format("fp16")), spec, Precision.FP16).advice
    where = path or "m.onnx"
    tolerance = " --tolerance 0.0001" if limit and path is None else ""
    assert said.endswith(f"`trt-harness search-fp32 {where}{tolerance} --precision fp16`")
