"""An engine is accused at 16 bits only if the oracle does not explain it; recurrence has two figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from harness.backends.choose import create
from harness.engines import controls
from harness.engines.subject import Subject
from harness.errors import RunError
from harness.graph import file as onnx_file
from harness.lowering.emulation import emulate as emulation
from harness.lowering.operators import MOVES
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from harness.verdict.question import Question
from harness.verdict.validate import answers, explain
from tests.helpers import recurrent
from tests.helpers.lowering import raw
from tests.lowering.emulation.test_stepped import memory
from tests.verdict.test_validate import exact, question, scaled

SPEC = """
name = "net"
model.onnx = "model.onnx"
precisions = ["fp16"]
[inputs.{input}]
dtype = "float32"
data = {{ generator = "normal" }}
[[profiles]]
shapes.{input} = {{ min = {shape}, opt = {shape}, max = {shape} }}
"""


def never(_: Any) -> Any:
    pytest.fail("was asked")


def first(*asked: Any, **more: Any) -> Any:
    return next(answers(question(*asked, **more)))


def test_what_the_oracle_explains_is_limited_by_precision(tmp_path: Path) -> None:
    found = first(tmp_path, scaled(1.1), emulation=exact, oracle=scaled(1.09))
    assert found.triage.verdict == "precision-limited"
    assert "the emulation is wrong here, not the engine" in found.triage.warnings[-1]
    assert "search-fp32" in found.triage.advice
    assert found.data()["oracle"] == {
        "emulated": 0.0, "mre": pytest.approx(0.09, rel=1e-3), "explains": True, "unasked": "",
    }  # fmt: skip


def test_an_engine_that_neither_explains_is_suspect(tmp_path: Path) -> None:
    found = first(tmp_path, scaled(1.1), emulation=exact, oracle=exact)
    assert found.triage.verdict == "engine-suspect"
    assert "does not explain the engine's error either" in found.triage.warnings[-1]
    assert found.data()["oracle"]["explains"] is False


def test_an_oracle_that_cannot_run_excuses_nothing(tmp_path: Path) -> None:
    def fails(_: Any) -> Any:
        raise RunError("node 'seq': SequenceAt takes no tensor")

    found = first(tmp_path, scaled(1.1), emulation=exact, oracle=fails)
    assert found.triage.verdict == "engine-suspect"
    assert "node 'seq'" in found.triage.warnings[-1]
    assert found.data()["oracle"]["mre"] is None


@pytest.mark.parametrize(
    ("engine", "emulated"), [(scaled(1.0), exact), (scaled(1.1), scaled(1.09)), (scaled(1.1), None)]
)
def test_it_is_asked_only_before_an_engine_is_accused(tmp_path: Path, engine: Any, emulated: Any) -> None:
    found = first(tmp_path, engine, emulation=emulated, oracle=never)
    assert found.triage.verdict != "engine-suspect"
    assert found.data()["oracle"] is None


def test_both_ends_of_recurrence_stand_in_record_and_message(tmp_path: Path) -> None:
    asked = question(tmp_path, scaled(1.1), emulation=scaled(1.09), kept_state=scaled(1.0001))
    found = list(answers(asked))
    figures = found[0].data()["recurrence"]
    assert figures == {"stepped": pytest.approx(0.09, rel=1e-3), "kept": pytest.approx(1e-4, rel=1e-2)}
    assert (
        "recurrent state rounded at every step, as TensorRT declares it: mre 9.0e-02; "
        "kernels that keep the state in FP32: 1.0e-04"
    ) in explain("net[fp16]", found, "pytest x")


def test_where_the_engine_is_the_emulation_it_is_the_stepped_end(tmp_path: Path) -> None:
    found = first(tmp_path, scaled(1.1), kept_state=scaled(1.01)).recurrence
    assert (found.stepped, found.kept) == (pytest.approx(0.1, rel=1e-3), pytest.approx(0.01, rel=1e-3))


def subject_of(folder: Path, model: ir.Model, name: str, shape: list[int]) -> Subject:
    onnx_file.write(model, folder / "model.onnx")
    (folder / "spec.toml").write_text(SPEC.format(input=name, shape=shape))
    return Subject(read_spec(folder / "spec.toml"), create("onnxruntime"), Cache(folder / "cache"))


def asked_of(subject: Subject, engine: Any, **more: Any) -> Question:
    terms = subject.spec.terms(Precision.FP16)
    emulated = subject.emulation(Precision.FP16).outputs
    return Question(subject.spec, terms, subject.feeds, engine, subject.reference(), emulated, **more)


class Kernels:
    """An engine with real 16-bit kernels."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def run(self, feeds: Any, _: int = 0) -> Any:
        return self._run(feeds)


def test_an_emulation_that_loses_a_rounding_accuses_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime itself loses it, where Tile is left to it."""
    every = emulation._is_written_out
    monkeypatch.setattr(emulation, "_is_written_out", lambda node: node.op_type not in MOVES and every(node))
    text = "t = Add(x, o) w = Tile(t, r) y = Sub(w, o)"
    weights = {"o": np.array(4096, np.float32), "r": np.array([1, 2])}
    model = raw(f"g (float[2,32] x) => (float[2,64] y) {{ {text} }}", **weights)
    subject = subject_of(tmp_path, model, "x", [2, 32])
    with controls.oracle(subject, Precision.FP16) as oracle:
        engine = Kernels(oracle)
        accused = next(answers(asked_of(subject, engine)))
        heard = next(answers(asked_of(subject, engine, oracle=oracle)))
    assert (accused.triage.verdict, heard.triage.verdict) == ("engine-suspect", "precision-limited")
    assert heard.opinion is not None
    assert heard.opinion.emulated < 1e-3
    assert heard.opinion.mre == pytest.approx(0.9, abs=0.15)


def test_a_gru_of_long_memory_has_two_ends(tmp_path: Path) -> None:
    long = memory(300, 8.0)
    tensors = {name: array for name, array in long.tensors.items() if name != "initial_h"}
    model = ir.serde.deserialize_model(recurrent.model(replace(long, tensors=tensors), None))
    subject = subject_of(tmp_path, model, "X", [300, 2, 8])
    kept = controls.kept_state(subject, Precision.FP16)
    stepped = subject.emulation(Precision.FP16).outputs
    found = next(answers(asked_of(subject, Kernels(stepped), kept_state=kept)))
    assert found.triage.verdict == "precision-limited"
    assert found.recurrence is not None
    assert found.recurrence.kept < 1e-3 < found.recurrence.stepped
    assert controls.kept_state(subject, Precision.FP32) is None


def test_a_model_without_recurrence_has_no_bracket(tmp_path: Path) -> None:
    model = raw("g (float[2,32] x) => (float[2,32] y) { y = Neg(x) }")
    assert controls.kept_state(subject_of(tmp_path, model, "x", [2, 32]), Precision.FP16) is None
