"""The layer-wise comparison of a case: its outputs are judged as `test_outputs` judges them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines.subject import Subject
from harness.layers.case import answer_layers
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from harness.verdict.question import Question
from harness.verdict.tasks import tasks_of
from harness.verdict.validate import answers

SPEC = """\
name = "sum"
precisions = ["fp16"]
model.onnx = "model.onnx"
profiles = [{ shapes = { x = [1, 2] } }]
[inputs.x]
dtype = "float32"
data = { npz = "data.npz", member = "x" }
"""
CANCELLING = (1.0, -0.999)
"""At FP16 their sum is 2.3 % off: more than an `mre` may be, less than a row may."""


def sums(folder: Path, rows: list[tuple[float, float]]) -> Path:
    """The spec of y = x W + x W, W of ones, with a batch of 1, on `rows`."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 2), ("y", 1)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "h"], ["y"])]
    weights = [numpy_helper.from_array(np.ones((2, 1), np.float32), "w")]
    graph = helper.make_graph(nodes, "sum", [x], [y], weights)
    opset = helper.make_opsetid("", 19)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), folder / "model.onnx")
    np.savez(folder / "data.npz", x=np.array(rows, np.float32))
    (folder / "spec.toml").write_text(SPEC)
    return folder / "spec.toml"


@contextmanager
def _question(folder: Path, rows: list[tuple[float, float]]) -> Iterator[tuple[Question, Subject]]:
    spec = read_spec(sums(folder, rows))
    subject = Subject(spec, OnnxRuntimeBackend(isolate=False), Cache(folder / "cache"))
    with subject.engine(Precision.FP16).open() as engine:
        asked = (spec, spec.terms(Precision.FP16), subject.feeds, engine, subject.reference())
        yield Question(*asked), subject


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [([CANCELLING, *[(1.0, 1.0)] * 15], "pass"), ([CANCELLING] * 16, "precision-limited")],
)
def test_outputs_are_judged_on_as_many_samples_as_in_the_outputs_suite(
    tmp_path: Path, rows: list[tuple[float, float]], verdict: str
) -> None:
    with _question(tmp_path, rows) as (question, subject):
        built = subject.engine(Precision.FP16)
        (plain,) = answers(question)
        layered = answer_layers(question, subject, built, 1 << 28)
    assert (plain.triage.verdict, layered.triage.verdict) == (verdict, verdict)
    assert layered.found.mre == plain.found.mre
    assert layered.layers.first_over is not None


def test_layers_are_shown_where_outputs_were_worst_and_the_output_is_one_of_them(tmp_path: Path) -> None:
    rows = [(1.0, 1.0)] * 13 + [CANCELLING, (1.0, 1.0), (1.0, 1.0)]
    with _question(tmp_path, rows) as (question, subject):
        built = subject.engine(Precision.FP16)
        (task,) = tasks_of(question.spec, question.feeds)
        late = replace(task, start=8, feeds=())
        layered = answer_layers(question, subject, built, 1 << 28, at=late)
        usual = answer_layers(question, subject, built, 1 << 28)
    assert layered.at.start == 8
    (output,) = [layer for layer in layered.layers.layers if layer.output]
    assert output.place.tensor == "y"
    assert output.over
    assert output.comparison.mre == pytest.approx(0.023, abs=0.002)
    assert not usual.layers.over


@pytest.mark.parametrize("oracle_explains", [True, False])
def test_outputs_and_layers_accuse_an_engine_alike_and_ask_the_oracle_alike(
    tmp_path: Path, oracle_explains: bool
) -> None:
    """An emulation that loses a rounding shows nothing of the error; run node by node, the model does."""
    with _question(tmp_path, [CANCELLING] * 16) as (question, subject):
        right, run = question.reference.outputs, question.engine.run
        oracle = (lambda feed: run(feed, 0)) if oracle_explains else right
        asked = replace(question, emulation=right, oracle=oracle)
        (plain,) = answers(asked)
        layered = answer_layers(asked, subject, subject.engine(Precision.FP16), 1 << 28)
    verdict = "precision-limited" if oracle_explains else "engine-suspect"
    assert (plain.triage.verdict, layered.triage.verdict) == (verdict, verdict)
    assert layered.triage.warnings == plain.triage.warnings
