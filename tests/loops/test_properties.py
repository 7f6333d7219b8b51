"""Properties of loops: each holds for a right engine, and fails for one that is wrong in its way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.engines.subject import Subject
from harness.loops.properties import PROPERTIES, check
from harness.loops.question import loop_question
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.storage.cache import Cache

MODELS = Path(__file__).resolve().parents[2] / "suites" / "models"


@pytest.fixture(scope="module", params=["char_decoder", "gru_steps", "silero_vad_stream"])
def asked(request, tmp_path_factory):
    """A question about a bundled loop, its engine the FP32 one."""
    spec, cache = read_spec(MODELS / request.param / "spec.toml"), Cache(tmp_path_factory.mktemp("cache"))
    subject = Subject(spec, OnnxRuntimeBackend(isolate=False), cache)
    with (
        subject.engine(Precision.FP32).open() as engine,
        loop_question(subject, Precision.FP32, engine, emulated=True) as question,
    ):
        yield request.param, question


def no_causality(feeds, outputs):
    """The last token of a prompt is read by all before it."""
    caches = {n: a.copy() for n, a in outputs.items() if n.startswith("present")}
    if feeds["input_ids"].shape[1] > 1:
        for cache in caches.values():
            cache[:, :, -2] += 1e-2 * cache[:, :, -1]
    return {**outputs, **caches}


def mixed_rows(_feeds, outputs):
    """What batches mix: each row is a little of the one before."""
    return {n: a + 1e-3 * np.roll(a, 1, 1 if n == "state_out" else 0) for n, a in outputs.items()}


def deaf_to_the_mask(feeds):
    return {**feeds, "attention_mask": np.ones_like(feeds["attention_mask"])}


APPLY = {
    "char_decoder": set(PROPERTIES),
    "gru_steps": {"loop-batch"},
    "silero_vad_stream": set(),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_it_holds_for_a_right_engine_or_says_why_it_does_not_apply(asked, name):
    model, question = asked
    outcome = check(name, question)
    assert bool(outcome.reason) == (name not in APPLY[model])
    assert outcome.holds
    assert outcome.reason or outcome.found


@pytest.mark.parametrize(
    ("model", "name", "wrong"),
    [
        ("char_decoder", "prefill", lambda run: lambda f, p: no_causality(f, run(f, p))),
        ("char_decoder", "chunked-prefill", lambda run: lambda f, p: no_causality(f, run(f, p))),
        ("char_decoder", "left-padding", lambda run: lambda f, p: run(deaf_to_the_mask(f), p)),
        ("char_decoder", "loop-batch", lambda run: lambda f, p: mixed_rows(f, run(f, p))),
        ("gru_steps", "loop-batch", lambda run: lambda f, p: mixed_rows(f, run(f, p))),
    ],
)
def test_it_fails_for_an_engine_that_is_wrong_in_its_way(asked, model, name, wrong):
    here, question = asked
    if here != model:
        pytest.skip("of another model")
    outcome = check(name, replace(question, engine=wrong(question.engine)))
    assert not outcome.holds
    assert 'exceptions = [{ property = "' + name in outcome.explain("m[fp32]", "pytest ...")
