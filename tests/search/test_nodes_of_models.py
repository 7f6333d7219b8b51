"""The FP32 nodes in the bundled specs are what stands between FP16 and a wrong answer."""

from pathlib import Path

import pytest

from harness.backends.choose import create
from harness.engines.subject import Subject
from harness.precision import Precision
from harness.spec.assets import missing
from harness.spec.file import read_spec
from harness.spec.model_spec import ModelSpec, PrecisionSpec
from harness.storage.cache import Cache
from harness.verdict.question import Question
from harness.verdict.validate import Answer, answers

MODELS = Path(__file__).parents[2] / "suites" / "models"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """One store for all cases, so that a model's reference is computed once."""
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["overflow_transformer", pytest.param("magika", marks=pytest.mark.slow)])
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    """A spec with FP32 nodes; a model that is not fetched is left out."""
    found = read_spec(MODELS / request.param / "spec.toml")
    if missing(found):
        pytest.skip("not fetched: make zoo")
    return found


def asked(spec: ModelSpec, cache: Cache) -> list[Answer]:
    """What the suite finds at FP16."""
    subject = Subject(spec, create("onnxruntime"), cache)
    with subject.engine(Precision.FP16).open("verified") as engine:
        question = Question(spec, spec.terms(Precision.FP16), subject.feeds, engine, subject.reference())
        return list(answers(question))


def test_with_its_nodes_fp16_passes(spec: ModelSpec, cache: Cache) -> None:
    found = asked(spec, cache)
    assert {answer.triage.verdict for answer in found} == {"pass"}
    assert max(answer.found.mre for answer in found) < 2e-3


def test_without_its_nodes_fp16_is_limited_by_precision(spec: ModelSpec, cache: Cache) -> None:
    part = spec.of(Precision.FP16)
    bare = PrecisionSpec(**{**part.model_dump(), "fp32_nodes": ()})
    without = spec.model_copy(update={"precision": {**spec.precision, Precision.FP16: bare}})
    found = asked(without, cache)
    assert {answer.triage.verdict for answer in found} == {"precision-limited"}
    assert not any(answer.found.mre < 0.5 for answer in found)
    assert all("trt-harness search-fp32" in answer.triage.advice for answer in found)
    assert all(answer.triage.split is not None and answer.triage.split.main == "rounding" for answer in found)
