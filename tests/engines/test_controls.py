"""The runs that attribute an error: made when asked, of the right thing, closed at the end."""

from pathlib import Path

import numpy as np
import pytest

from harness.backends.choose import create
from harness.engines import controls
from harness.engines.subject import Subject
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from tests.helpers.project import write_case

FEED = {"x": np.full((2, 4), 0.3, np.float32)}


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    precisions = ("fp32", "int8+fp16")
    weight = np.linspace(0.1, 1, 8).reshape(4, 2)
    spec = read_spec(write_case(tmp_path / "net", precisions=precisions, weight=weight))
    return Subject(spec, create("onnxruntime"), Cache(tmp_path / "cache"))


class Backend:
    """A double that records what it is asked to build; its engines answer whether TF32 was on."""

    def __init__(self) -> None:
        self.built: list[bool] = []
        self.closed = 0


def test_the_engine_without_tf32_is_built_when_asked_and_closed(subject: Subject, monkeypatch) -> None:
    build = subject.spec.build.model_copy(update={"tf32": True})
    object.__setattr__(subject, "spec", subject.spec.model_copy(update={"build": build}))
    double = Backend()

    class Engine:
        def run(self, _feeds, profile):
            return {"profile": profile}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            double.closed += 1

    class Built:
        def open(self, _face):
            return Engine()

    def engine(self, what):
        double.built.append(self.spec.build.tf32)
        assert what is Precision.FP32
        return Built()

    monkeypatch.setattr(Subject, "engine", engine)
    with controls.without_tf32(subject) as run:
        assert not double.built
        assert run(FEED, 1) == {"profile": 1}
        run(FEED, 0)
        assert (double.built, double.closed) == ([False], 0)
    assert double.closed == 1
    assert subject.spec.build.tf32


def test_without_tf32_the_spec_keeps_its_folder(subject: Subject) -> None:
    assert controls.strict_fp32(subject).spec.folder == subject.spec.folder


def test_int8_alone_lies_between_fp32_and_both(subject: Subject) -> None:
    with controls.quantized_only(subject, Precision.INT8_FP16) as run:
        assert run is not None
        found = run(FEED)["y"]
    expected = subject.reference().outputs(FEED)["y"]
    both = subject.emulation(Precision.INT8_FP16).outputs(FEED)["y"]
    assert 0 < np.abs(found - expected).max() < 0.05
    assert np.abs(both - found).max() < 2e-3
    assert found.dtype == np.float32


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.INT8])
def test_other_precisions_have_nothing_to_tell_apart(subject: Subject, precision: Precision) -> None:
    with controls.quantized_only(subject, precision) as run:
        assert run is None
