"""Judging an engine at every shape: what is covered, and that a wrong engine fails."""

from types import SimpleNamespace

import numpy as np
import pytest

from harness.cases import cases_of
from harness.inputs import Feeds
from harness.precision import Precision
from harness.reference import Floor
from harness.spec_file import read_spec
from harness.validate import SAMPLES_PER_SHAPE, Question, answers, explain, stacked
from tests.helpers_project import write_case

WEIGHT = np.eye(4, 2, dtype=np.float32) + 0.25


def exact(feed):
    return {"y": np.maximum(feed["x"] @ WEIGHT, 0)}


class Reference:
    def outputs(self, feed):
        return exact(feed)

    def floor(self, _):
        return {"y": Floor(1e-7, None, "not measured")}


def question(tmp_path, run, precision=Precision.FP16, emulation=None):
    spec = read_spec(write_case(tmp_path / "net"))
    engine = SimpleNamespace(run=lambda feed, _: run(feed))
    return Question(spec, precision, spec.tolerance(precision), Feeds(spec), engine, Reference(), emulation)


def halved(feed):
    return {"y": exact(feed)["y"].astype(np.float16).astype(np.float32)}


def test_every_shape_of_every_profile_is_answered(tmp_path):
    asked = question(tmp_path, halved)
    found = list(answers(asked))
    assert [a.shapes for a in found] == [case.shapes for case in cases_of(asked.spec.profiles[0])]
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


def test_outputs_of_several_feeds_become_one_with_a_row_each():
    same = [{"y": np.zeros((1, 3))}, {"y": np.ones((1, 3))}]
    assert stacked(same)["y"].shape == (2, 1, 3)
    other = [{"y": np.zeros((1, 3))}, {"y": np.ones((2, 3))}]
    assert stacked(other) is other
    assert stacked(same[:1]) is same[0]


def test_the_record_has_what_the_schema_says(tmp_path):
    data = next(answers(question(tmp_path, halved))).data()
    assert set(data) == {
        "shape", "samples", "mre", "limit", "expected", "floor", "advice", "split", "comparison",
    }  # fmt: skip
    assert data["floor"] == {"y": {"optimised": 1e-7, "float64": None, "reason": "not measured"}}
