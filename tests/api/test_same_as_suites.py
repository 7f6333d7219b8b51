"""`validate` says of every bundled model what the suites say of it, figure by figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.records import Record
from harness.report import results

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted(path.parent for path in (ROOT / "suites" / "models").glob("*/model.onnx"))
CHECKS = ("outputs", "accuracy")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Engines and references, made once for both."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def suites(cache):
    """The records of `pytest suites/` on the bundled models."""
    files = [f"suites/test_{name}.py" for name in CHECKS]
    models = [f"--trt-spec={folder}" for folder in MODELS]
    given = [f"--trt-cache-dir={cache}", f"--trt-report-dir={cache / 'reports'}", "--trt-backend=onnxruntime"]
    command = [sys.executable, "-m", "pytest", "-q", *files, *models, *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (folder,) = (cache / "reports").iterdir() if (cache / "reports").is_dir() else (None,)
    assert folder, done.stdout + done.stderr
    return results.read(folder).records


def said(record: Record) -> tuple[object, ...]:
    """What a record judges, and by which figures; not how it is called or how long it took."""
    figures = {key: record.data.get(key) for key in ("mre", "limit", "expected", "samples", "drop", "score")}
    place = record.profile, sorted(record.shapes.items())
    return record.kind, record.precision, record.verdict, place, figures, record.warnings, record.manifest


@pytest.mark.slow
@pytest.mark.parametrize("folder", MODELS, ids=[folder.name for folder in MODELS])
def test_verdict_and_figures_are_those_of_the_suites(folder, suites, cache):
    name = harness.read_spec(folder / "spec.toml").name
    expected = [said(record) for record in suites if record.model == name]
    report = harness.validate(folder, checks=CHECKS, backend="onnxruntime", cache_dir=cache)
    assert expected
    assert [said(record) for record in report.records] == expected
