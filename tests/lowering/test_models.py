"""Lowering on the committed models: what plain ONNX Runtime hides on the CPU, the emulation shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from harness.data.inputs import Feeds
from harness.graph import file as onnx_file
from harness.lowering.emulation.emulate import emulate
from harness.lowering.lower import lower, quantizable
from harness.lowering.passes.contract import Contract
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan
from harness.spec.file import read_spec
from tests.helpers.lowering import mre, run, to_proto

MODELS = sorted(Path(__file__).parents[2].glob("suites/models/*/model.onnx"))
LOWERED = [p for p in Precision if p not in (Precision.FP32, Precision.TF32)]


def subject(path: Path):
    spec = read_spec(path.with_name("spec.toml"))
    shapes = {name: shape.opt for name, shape in spec.profiles[0].shapes.items()}
    return spec, normalise(onnx_file.read(path)), dict(Feeds(spec).feed(shapes))


def test_there_are_models() -> None:
    assert len(MODELS) >= 5


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_normalising_changes_no_result(path: Path) -> None:
    _, normalised, feeds = subject(path)
    expected, actual = run(onnx_file.read(path), feeds), run(normalised, feeds)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


@pytest.mark.parametrize("precision", LOWERED, ids=str)
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_lowered_models_are_valid_and_keep_all_names(path: Path, precision: Precision) -> None:
    normalised = normalise(onnx_file.read(path))
    plan = PrecisionPlan(precision)
    lowered = lower(normalised, plan, {t: 1.0 for q in quantizable(normalised, plan) for t in q.activations})
    for result in (lowered.model, emulate(lowered)):
        assert not list(Contract.of(normalised).broken(result))
        onnx.checker.check_model(to_proto(result), full_check=True)


def test_overflow_that_plain_onnx_runtime_hides_is_found() -> None:
    path = next(path for path in MODELS if path.parent.name == "overflow_transformer")
    spec, normalised, feeds = subject(path)
    expected = run(normalised, feeds)
    everywhere = lower(normalised, PrecisionPlan(Precision.FP16))
    hidden, found = run(everywhere.model, feeds, optimised=True), run(emulate(everywhere), feeds)
    cured = run(emulate(lower(normalised, spec.plan(Precision.FP16))), feeds)
    for name, array in expected.items():
        assert mre(hidden[name], array) < 5e-3
        assert not np.isfinite(found[name]).all()
        assert mre(cured[name], array) < 5e-3
