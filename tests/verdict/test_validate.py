"""Judging an engine at every shape: what is covered, and that a wrong engine fails."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from harness.data.inputs import Feeds
from harness.data.shapes import cases_of
from harness.engines.reference import Floor
from harness.errors import RunError
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.spec.model_spec import Profile
from harness.verdict.question import Question
from harness.verdict.tasks import SAMPLES_PER_SHAPE
from harness.verdict.validate import answers, explain
from tests.helpers.project import write_case

WEIGHT = np.eye(4, 2, dtype=np.float32) + 0.25


def exact(feed):
    return {"y": np.maximum(feed["x"] @ WEIGHT, 0)}


class Reference:
    def outputs(self, feed):
        return exact(feed)

    def readings(self, feed):
        return (exact(feed),)

    def floor(self, _):
        return {"y": Floor(1e-7, None, "not measured")}


def question(tmp_path, run, precision=Precision.FP16, emulation=None, extra="", **more):
    spec = read_spec(write_case(tmp_path / "net", extra=extra))
    engine = SimpleNamespace(run=lambda feed, _: run(feed))
    return Question(spec, spec.terms(precision), Feeds(spec), engine, Reference(), emulation, **more)


def halved(feed):
    return {"y": exact(feed)["y"].astype(np.float16).astype(np.float32)}


def test_every_shape_of_every_profile_is_answered(tmp_path):
    asked = question(tmp_path, halved)
    found = list(answers(asked))
    assert [a.shapes for a in found] == [case.shapes for case in cases_of(asked.spec.profiles[0], "normal")]
    assert {answer.triage.verdict for answer in found} == {"pass"}
    assert all(answer.samples >= SAMPLES_PER_SHAPE for answer in found)


def test_each_shape_is_fed_other_samples(tmp_path):
    seen = []
    list(answers(question(tmp_path, lambda feed: seen.append(feed["x"]) or exact(feed))))
    rows = [row.tobytes() for x in seen for row in x]
    assert len(set(rows)) == 16


def swapped(feed):
    y = exact(feed)["y"]
    return {"y": y[::-1]}


def one_off(feed):
    y = exact(feed)["y"].copy()
    y[-1, 0] *= 2
    return {"y": y}


WRONG = {
    "nan": lambda feed: {"y": exact(feed)["y"] * np.nan},
    "zero": lambda feed: {"y": exact(feed)["y"] * 0},
    "twice": lambda feed: {"y": exact(feed)["y"] * 2},
    "rows swapped": swapped,
    "one element off": one_off,
    "output missing": lambda feed: {},  # noqa: ARG005
    "output more": lambda feed: {**exact(feed), "z": feed["x"]},
    "dtype": lambda feed: {"y": exact(feed)["y"].astype(np.int32)},
    "transposed": lambda feed: {"y": exact(feed)["y"].T},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_engine_fails(tmp_path, name):
    found = list(answers(question(tmp_path, WRONG[name], emulation=halved)))
    verdicts = {answer.label: answer.triage.verdict for answer in found}
    assert verdicts["max"] == "engine-suspect"


def test_what_the_emulation_explains_is_limited_by_precision(tmp_path):
    found = list(answers(question(tmp_path, WRONG["twice"], emulation=WRONG["twice"])))
    assert {answer.triage.verdict for answer in found} == {"precision-limited"}


def test_one_text_tells_every_shape_that_fails(tmp_path):
    found = list(answers(question(tmp_path, WRONG["twice"], emulation=halved)))
    text = explain("net[fp16]", found, "pytest x")
    assert text.startswith(f"net[fp16]: engine-suspect; {len(found)} of {len(found)} shapes fail")
    assert all(answer.place in text for answer in found)
    assert "the reference's own error: mre 1.0e-07" in text
    assert text.endswith("reproduce: pytest x")


class Choosy(Reference):
    """A model whose axes hang together in a way that the spec does not say."""

    def outputs(self, feed):
        if len(feed["x"]) == 32:
            raise RunError("sizes do not fit")
        return exact(feed)


def test_shapes_that_the_model_itself_refuses_are_told_and_not_judged(tmp_path):
    refused, asked = [], question(tmp_path, halved)
    profile = Profile(shapes={"x": {"min": [1, 4], "opt": [4, 4], "max": [64, 4]}})
    spec = asked.spec.model_copy(update={"profiles": (profile,)})
    asked = replace(asked, spec=spec, feeds=Feeds(spec), reference=Choosy())
    found = list(answers(asked, refused))
    assert {answer.triage.verdict for answer in found} == {"pass"}
    assert [(one.shapes, one.reason) for one in refused] == [({"x": (32, 4)}, "sizes do not fit")]
    assert len(found) + 1 == len(cases_of(profile, "normal"))


def test_the_record_has_what_the_schema_says(tmp_path):
    data = next(answers(question(tmp_path, halved))).data()
    assert set(data) == {
        "shape", "samples", "coverage", "mre", "limit", "expected", "floor", "advice", "split",
        "without_tf32", "recurrence", "oracle", "comparison", "own_error",
    }  # fmt: skip
    assert data["floor"] == {"y": {"optimised": 1e-7, "float64": None, "reason": "not measured"}}


@pytest.mark.parametrize(("own", "told"), [(1e-7, False), (4e-3, False), (6e-3, True)])
def test_an_engine_that_passes_against_an_unsure_reference_passes_with_a_caveat(tmp_path, own, told):
    asked = question(tmp_path, halved)
    asked.reference.floor = lambda _: {"y": Floor(own, None, "not measured")}
    found = next(answers(asked)).triage
    assert found.verdict == "pass"
    assert ("the reference's own error is above the limit" in found.caveats) == told


def scaled(factor):
    return lambda feed, *_: {"y": (exact(feed)["y"] * factor).astype(np.float32)}


def split_of(asked):
    return next(answers(asked)).triage.split


def test_the_emulations_error_and_the_engines_own_are_told_apart(tmp_path):
    rounding = split_of(question(tmp_path / "a", scaled(1.1), emulation=scaled(1.09)))
    assert rounding.rounding == pytest.approx(0.09, rel=1e-3)
    assert rounding.runtime == pytest.approx(0.01 / 1.09, rel=1e-3)
    assert rounding.main == "rounding"
    assert split_of(question(tmp_path / "b", scaled(1.1), emulation=scaled(1.001))).main == "runtime"


def test_where_the_engine_is_the_emulation_the_runtime_adds_nothing(tmp_path):
    found = split_of(question(tmp_path, scaled(1.1)))
    assert (found.runtime, found.main) == (0.0, "rounding")


@pytest.mark.parametrize("emulation", [None, scaled(1 + 1e-6)])
def test_at_fp32_all_error_is_the_runtimes(tmp_path, emulation):
    found = split_of(question(tmp_path, scaled(1.1), Precision.FP32, emulation))
    assert (found.rounding, found.quantization, found.main) == (None, None, "runtime")


@pytest.mark.parametrize(("engine", "runs"), [(1.3, True), (1.01, False)])
def test_quantization_is_told_from_rounding_where_the_engine_fails(tmp_path, engine, runs):
    asked = question(
        tmp_path, scaled(engine), Precision.INT8_FP16, scaled(engine), quantized_only=scaled(1.25)
    )
    found = split_of(asked)
    assert found.quantization == pytest.approx(0.25 if runs else engine - 1, rel=1e-3)
    assert found.rounding == (pytest.approx(engine - 1.25, rel=1e-2) if runs else None)


def test_a_failure_shows_the_split(tmp_path):
    found = list(answers(question(tmp_path, scaled(1.1), emulation=scaled(1.09))))
    assert (
        "of the error, mre 1.0e-01: rounding 9.0e-02 (what 16 bits add, emulated), runtime 9.2e-03 "
        "(the engine against its emulation); most of it is rounding"
    ) in explain("net[fp16]", found, "pytest x")


TF32 = "[build]\ntf32 = true\n"


@pytest.mark.parametrize(
    ("without", "verdict", "advice"),
    [(1.0, "precision-limited", "TF32 is the cause"), (1.001, "engine-suspect", "engine bug")],
)
def test_fp32_with_tf32_is_judged_by_the_engine_without_it(tmp_path, without, verdict, advice):
    asked = question(tmp_path, scaled(1.001), Precision.FP32, exact, extra=TF32, without_tf32=scaled(without))
    found = next(answers(asked))
    assert (found.triage.verdict, found.without_tf32) == (verdict, pytest.approx(without - 1, abs=1e-6))
    assert advice in found.triage.advice


def test_the_engine_without_tf32_is_not_built_where_nothing_fails(tmp_path):
    def never(*_):
        pytest.fail("was run")

    found = next(
        answers(question(tmp_path / "a", scaled(1), Precision.FP32, exact, extra=TF32, without_tf32=never))
    )
    assert (found.triage.verdict, found.without_tf32) == ("pass", None)
    next(answers(question(tmp_path / "b", scaled(1.001), Precision.FP32, exact, without_tf32=never)))


@pytest.mark.parametrize(
    ("emulation", "command"),
    [
        (scaled(1.1), "trt-harness search-fp32 net/spec.toml --precision fp16"),
        (exact, "trt-harness bundle net-fp16 --trt-spec net/spec.toml --minimise"),
    ],
)
def test_advice_names_the_case_in_commands_that_run_as_they_stand(tmp_path, monkeypatch, emulation, command):
    monkeypatch.chdir(tmp_path)
    found = next(answers(question(tmp_path, scaled(1.1), emulation=emulation)))
    assert f"`{command}`" in found.triage.advice


def test_only_an_engine_that_is_the_emulation_is_warned_of_real_kernels(tmp_path):
    def off(feed):
        return {"y": exact(feed)["y"] * np.float32(1.004)}

    def warned(**more):
        found = list(answers(question(tmp_path / str(len(more)), off, **more)))
        assert {answer.triage.verdict for answer in found} == {"pass"}
        return ["real kernels" in " ".join(answer.triage.warnings) for answer in found]

    assert all(warned())
    assert not any(warned(emulation=off))
