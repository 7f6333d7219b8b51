"""A spec becomes a model, lowered models, engines and a reference; each once, from the cache when it can."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines import subject as module
from harness.engines.reference import mre
from harness.engines.subject import Subject
from harness.errors import NotHonouredError, SpecError, UsageError
from harness.graph import file as onnx_file
from harness.precision import Precision, PrecisionPlan
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from tests.helpers.lowering import model

RNG = np.random.default_rng(0)
SPEC = """
name = "mlp"
model.onnx = "model.onnx"
precisions = ["fp32", "fp16", "bf16", "int8", "int8+fp16"]
{more}
[inputs.x]
dtype = "float32"
data = {{ generator = "normal" }}
[[profiles]]
shapes.x = {{ min = [1, 8], opt = [4, 8], max = [8, 8] }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlp")
    weights = {n: RNG.normal(size=s).astype(np.float32) for n, s in (("w1", (8, 16)), ("w2", (16, 4)))}
    text = "[fc1] a = MatMul(x, w1) [act] b = Relu(a) [fc2] y = MatMul(b, w2) [side] side = Neg(a)"
    made = model(f"mlp (float[N,8] x) => (float[N,4] y, float[N,16] side) {{ {text} }}", **weights)
    onnx_file.write(made, folder / "model.onnx")
    return folder


def subject_of(folder: Path, cache: Path, more: str = "") -> Subject:
    path = folder / "spec.toml"
    path.write_text(SPEC.format(more=more))
    return Subject(read_spec(path), OnnxRuntimeBackend(isolate=False), Cache(cache))


@pytest.fixture
def subject(folder: Path, tmp_path: Path) -> Subject:
    return subject_of(folder, tmp_path)


def feeds_of(subject: Subject) -> dict[str, Any]:
    return subject.feeds.feed({"x": (4, 8)})


LIMITS = {"fp32": 5e-6, "fp16": 5e-3, "bf16": 4e-2, "int8": 1e-1, "int8+fp16": 1e-1}


@pytest.mark.parametrize(("precision", "limit"), LIMITS.items())
def test_engines_agree_with_the_reference_within_their_tolerance(
    subject: Subject, precision: str, limit: float
) -> None:
    expected = subject.reference().outputs(feeds_of(subject))
    with subject.engine(Precision(precision)).open() as engine:
        actual = engine.run(feeds_of(subject))
    assert max(mre(actual[name], expected[name]) for name in expected) < limit


def test_an_engine_that_is_not_the_model_is_seen(subject: Subject) -> None:
    """The oracle above fails where it must: other feeds are another answer."""
    expected = subject.reference().outputs(feeds_of(subject))
    with subject.engine(Precision.FP32).open() as engine:
        actual = engine.run(subject.feeds.feed({"x": (4, 8)}, start=1))
    assert mre(actual["y"], expected["y"]) > 1e-1


def test_a_second_session_finds_everything(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [subject.engine(p).manifest for p in subject.spec.precisions]
    outputs = dict(subject.reference().outputs(feeds_of(subject)))
    monkeypatch.setattr(module, "lower", None)
    again = replace(subject)
    assert [again.engine(p).manifest for p in again.spec.precisions] == first
    assert all(again.engine(p).hit for p in again.spec.precisions)
    for name, array in again.reference().outputs(feeds_of(again)).items():
        np.testing.assert_array_equal(array, outputs[name])


def test_an_engine_is_built_once_in_a_session(subject: Subject) -> None:
    assert subject.engine(Precision.FP16) is subject.engine(Precision.FP16)
    assert subject.engine(Precision.FP16) is subject.engine(subject.plan(Precision.FP16))


def test_another_plan_is_another_engine(subject: Subject) -> None:
    kept = subject.engine(PrecisionPlan(Precision.FP16, ("fc1",)))
    assert kept.manifest.hash != subject.engine(Precision.FP16).manifest.hash
    assert kept.manifest.got["fp32_kept"] == ["fc1"]


def test_one_calibration_serves_every_plan(subject: Subject) -> None:
    ranges = subject.ranges(Precision.INT8)
    assert ranges is not None
    assert set(ranges) == {"x", "b"}
    assert subject.ranges(PrecisionPlan(Precision.INT8, ("fc2",))) == ranges
    assert subject.ranges(Precision.FP16) is None


def test_calibration_is_kept(subject: Subject) -> None:
    assert subject.calibration(Precision.INT8).reason == "absent"
    assert replace(subject).calibration(Precision.INT8).reason == "hit"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_emulation_is_what_the_cpu_engine_verifies(subject: Subject, precision: str) -> None:
    emulated = subject.emulation(Precision(precision)).outputs(feeds_of(subject))
    with subject.engine(Precision(precision)).open() as engine:
        actual = engine.run(feeds_of(subject))
    for name, array in emulated.items():
        np.testing.assert_array_equal(actual[name], array)


def test_an_emulation_may_overflow(subject: Subject) -> None:
    huge = {"x": np.full((1, 8), 6e4, np.float32)}
    assert not np.isfinite(subject.emulation(Precision.FP16).outputs(huge)["y"]).all()
    assert np.isfinite(subject.reference().outputs(huge)["y"]).all()


def test_ignored_outputs_are_not_in_the_reference(folder: Path, tmp_path: Path) -> None:
    subject = subject_of(folder, tmp_path, 'outputs.side = { compare = "ignore" }')
    assert subject.output_names == ("y",)
    assert set(subject.reference().outputs(feeds_of(subject))) == {"y"}


def test_changed_weights_rebuild_everything(folder: Path, tmp_path: Path, subject: Subject) -> None:
    subject.engine(Precision.FP16)
    subject.reference().outputs(feeds_of(subject))
    other = tmp_path / "other"
    other.mkdir()
    changed = onnx_file.read(folder / "model.onnx")
    weight = changed.graph.initializers["w1"]
    weight.const_value = ir.Tensor(weight.const_value.numpy() * 2, name="w1")
    onnx_file.write(changed, other / "model.onnx")
    again = subject_of(other, tmp_path)
    assert again.engine(Precision.FP16).reason == "stale: model changed"
    assert again.reference().entry(feeds_of(again)).reason == "stale: model changed"


def test_changed_lowering_code_rebuilds_engines(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.engine(Precision.FP16)
    monkeypatch.setattr(module, "code_digest", lambda: "other code")
    assert replace(subject).engine(Precision.FP16).reason == "stale: code changed"


def test_a_spec_that_does_not_fit_the_model_is_refused(folder: Path, tmp_path: Path) -> None:
    subject = subject_of(folder, tmp_path, 'precision.fp16.fp32_nodes = ["nope*"]')
    with pytest.raises(SpecError, match="nope"):
        subject.engine(Precision.FP16)


def test_a_pattern_of_a_plan_that_matches_nothing_is_refused(subject: Subject) -> None:
    with pytest.raises(UsageError, match="nope"):
        subject.engine(PrecisionPlan(Precision.FP16, ("nope",)))


def test_a_source_that_is_not_onnx_is_refused_not_ignored(folder: Path, tmp_path: Path) -> None:
    subject = subject_of(folder, tmp_path, "")
    source = subject.spec.model.model_copy(update={"network": "net.py:build"})
    networked = replace(subject, spec=subject.spec.model_copy(update={"model": source}))
    with pytest.raises(NotHonouredError, match=r"mlp: onnxruntime builds from ONNX, not 'net\.py:build'"):
        networked.engine(Precision.FP32)


def test_the_digest_of_the_code_covers_the_libraries_that_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    before = module.code_digest.__wrapped__()
    monkeypatch.setattr(module, "version", lambda name: "other" if name == "onnx" else version(name))
    assert module.code_digest.__wrapped__() != before


def test_what_another_runtime_or_code_found_is_found_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = subject_of(folder, tmp_path)
    first.calibration(Precision.INT8)
    monkeypatch.setattr("onnxruntime.__version__", "other")
    again = subject_of(folder, tmp_path).calibration(Precision.INT8)
    assert "runtime" in again.reason
    assert len(list((tmp_path / "trial").glob("*/manifest.json"))) == 2
    monkeypatch.setattr(module, "code_digest", lambda: "other")
    subject_of(folder, tmp_path).require_survives()
    assert len(list((tmp_path / "trial").glob("*/manifest.json"))) == 3
