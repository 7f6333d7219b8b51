"""Faults planted into a loop at one step, and found at that step; without any, the loop passes."""

from pathlib import Path

import numpy as np
import pytest

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.comparison.emulated_error import open_cpu
from harness.engines.subject import Subject
from harness.loops.judge import answer_loop
from harness.loops.question import loop_question
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.storage.cache import Cache

MODELS = Path(__file__).resolve().parents[2] / "suites" / "models"
STEPS, PLANTED = 48, 40


class Faulty:
    """An engine whose answers are spoilt; `step` is the step that the loop is at, of either mode."""

    def __init__(self, engine, spoil):
        self._engine, self._spoil, self._runs, self._before = engine, spoil, 0, None

    def run(self, feeds, _profile=0):
        """The first step runs once, every other one forced and then free."""
        self._runs += 1
        step = 1 + self._runs // 2
        fed, outputs = self._spoil(step, dict(feeds), self._before, self._engine.run)
        if self._runs % 2:
            self._before = fed
        return outputs


def spoilt_feeds(change):
    """A fault in what the engine reads, from the planted step on."""

    def spoil(step, feeds, before, run):
        if step < PLANTED:
            return feeds, run(feeds)
        return feeds, run(change(feeds, before))

    return spoil


def spoilt_outputs(change):
    """A fault in what the engine writes, at steps that `change` knows."""

    def spoil(step, feeds, _before, run):
        return feeds, change(step, run(feeds), feeds)

    return spoil


def late(name):
    """The state of the step before."""
    return spoilt_feeds(lambda feeds, before: {**feeds, name: before[name]})


def shifted_positions(feeds, _before):
    return {**feeds, "position_ids": feeds["position_ids"] + 1}


def short_mask(feeds, _before):
    mask = feeds["attention_mask"].copy()
    mask[:, 0] = 0
    return {**feeds, "attention_mask": mask}


def stale_head(step, outputs, _feeds):
    """The newest entry of one head is that of the position before."""
    if step >= PLANTED:
        cache = outputs["present_k_1"].copy()
        cache[:, 2, -1] = cache[:, 2, -2]
        return {**outputs, "present_k_1": cache}
    return outputs


def drift(name):
    """The state is a little too large, from the planted step on."""
    return spoilt_outputs(
        lambda step, found, _: {**found, name: found[name] * np.float32(1 + 1e-4 * (step >= PLANTED))}
    )


def rounded_once(step, outputs, _feeds):
    """One step in FP16."""
    if step != PLANTED:
        return outputs
    return {n: a.astype(np.float16).astype(a.dtype) for n, a in outputs.items()}


def turned_nan(step, outputs, _feeds):
    return {n: a * np.float32(np.nan) if step >= PLANTED else a for n, a in outputs.items()}


FAULTS = {
    "state off by one step": ("gru_steps", late("state")),
    "cache position off by one": ("char_decoder", spoilt_feeds(shifted_positions)),
    "one head's cache stale": ("char_decoder", spoilt_outputs(stale_head)),
    "drift of 1e-4 a step": ("gru_steps", drift("state_out")),
    "a rounding at one step alone": ("char_decoder", spoilt_outputs(rounded_once)),
    "a rounding at one step of a GRU": ("gru_steps", spoilt_outputs(rounded_once)),
    "mask one short": ("char_decoder", spoilt_feeds(short_mask)),
    "NaN": ("gru_steps", spoilt_outputs(turned_nan)),
}


def answered(model, spoil, folder, **changes):
    """The answer of a loop on the FP32 model, spoilt, against the FP32 emulation."""
    spec = read_spec(MODELS / model / "spec.toml")
    loop = spec.loop.model_copy(update={"steps": STEPS, "sequences": 1, **changes})
    subject = Subject(spec.model_copy(update={"loop": loop}), OnnxRuntimeBackend(), Cache(folder))
    names = tuple(str(value.name) for value in subject.exact.graph.outputs)
    with open_cpu(subject.exact, names) as engine:
        faulty = Faulty(engine, spoil)
        with loop_question(subject, Precision.FP32, faulty, emulated=False) as question:
            return answer_loop(question)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_at_its_step(name, tmp_path):
    model, spoil = FAULTS[name]
    answer = answered(model, spoil, tmp_path)
    assert answer.triage.verdict == "engine-suspect"
    assert answer.first_over("forced").step == PLANTED
    assert answer.failed[0].step == PLANTED
    message = answer.explain("m[fp32]", "pytest ...")
    assert f"step {PLANTED} of {STEPS}" in message
    assert f"first forced step over tolerance: {PLANTED}" in message
    if name == "NaN":
        assert answer.data()["first_non_finite"] == {
            "mode": "forced", "step": PLANTED, "output": answer.data()["first_non_finite"]["output"],
        }  # fmt: skip


@pytest.mark.parametrize("model", ["char_decoder", "gru_steps"])
def test_without_a_fault_the_loop_passes(model, tmp_path):
    answer = answered(model, spoilt_outputs(lambda _step, found, _feeds: found), tmp_path)
    assert answer.triage.verdict == "pass"
    assert answer.failed == ()
    assert answer.first_over("forced") is None
    assert answer.data()["free"] == [0.0] * STEPS


def test_a_state_that_accumulates_is_told_from_what_one_step_creates(tmp_path):
    """A state scaled by a hair: each step is off alike, what runs free is off by more and more."""

    def swollen(_step, outputs, _feeds):
        return {**outputs, "state_out": outputs["state_out"] * np.float32(1 + 2e-6)}

    answer = answered("gru_steps", spoilt_outputs(swollen), tmp_path)
    forced, free = answer.errors("forced"), answer.errors("free")
    assert max(forced) < 5e-6 < free[-1]
    assert {one.mode for one in answer.failed} == {"free"}


def test_growth_that_a_spec_allows_raises_the_limit_of_later_steps(tmp_path):
    def swollen(_step, outputs, _feeds):
        return {**outputs, "state_out": outputs["state_out"] * np.float32(1 + 2e-6)}

    assert answered("gru_steps", spoilt_outputs(swollen), tmp_path, growth=1.0).triage.verdict == "pass"
