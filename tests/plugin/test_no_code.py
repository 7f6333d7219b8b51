"""`--trt-no-code`: everything that may run code is refused in one line, and nothing of it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.engines.native import native_of
from harness.errors import UsageError
from harness.options import Options
from harness.plugin.preflight import check_spec
from harness.precision import Precision
from harness.spec.file import read_spec
from harness.spec.loop import TokenSpec
from harness.spec.model_spec import BuildSpec, DataSource, ModelSource, ModelSpec, TaskSpec
from harness.spec.user_code import code_in
from tests.helpers.models import SPEC, write_example

TRAP = """\
from pathlib import Path
Path(__file__).with_name("ran").touch()
def run(*_): return None
"""
DATA = 'data = { npz = "data.npz", member = "rows" }'
LABELS = 'labels = { npz = "data.npz", member = "labels" }'
MODEL = 'onnx = "model.onnx"'
CALIBRATION = '\n[precision.int8.calibration.data]\ninput = { loader = "trap.py:run" }\n'
LOOP = '\n[loop]\nsteps = 1\ntokens = { from = "logits", to = "input", choose = "trap.py:run" }'
CASES: Mapping[str, tuple[str, str]] = {
    "inputs.input.data.loader": (DATA, 'data = { loader = "trap.py:run" }'),
    "precision.int8.calibration.data.input.loader": (LABELS, LABELS + CALIBRATION),
    "task.labels.loader": (LABELS, 'labels = { loader = "trap.py:run" }'),
    "task.metric": (LABELS, LABELS + '\nmetric = "trap.py:run"'),
    "model.network": (MODEL, MODEL + '\nnetwork = "trap.py:run"'),
    "model.engine": (MODEL, MODEL + '\nengine = "finished.plan"'),
    "loop.tokens.choose": (LABELS, LABELS + LOOP),
    "build.plugins[0]": (LABELS, LABELS + '\n[build]\nplugins = ["plugin.so"]'),
}


def written(folder: Path, key: str) -> ModelSpec:
    old, new = CASES[key]
    path = write_example(folder, SPEC.replace(old, new))
    (folder / "trap.py").write_text(TRAP)
    (folder / "finished.plan").write_bytes(b"engine")
    (folder / "plugin.so").write_bytes(b"library")
    return read_spec(path)


@pytest.mark.parametrize("key", CASES)
def test_each_is_refused_in_one_line_before_anything_runs(tmp_path: Path, key: str) -> None:
    spec = written(tmp_path, key)
    with pytest.raises(UsageError, match=rf"{re.escape(key)} = '.*--trt-no-code refuses") as caught:
        check_spec(spec, Options(allow_code=False))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["model.network", "model.engine", "build.plugins[0]"])
def test_nothing_of_it_reaches_a_builder(tmp_path: Path, key: str) -> None:
    spec = written(tmp_path, key)
    with pytest.raises(UsageError, match="--trt-no-code refuses"):
        native_of(spec, spec.plan(Precision.FP32), "tensorrt", allow_code=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", CASES)
def test_the_list_names_each(tmp_path: Path, key: str) -> None:
    assert [found for found, _, _ in code_in(written(tmp_path, key))] == [key]


def test_a_spec_without_code_is_taken(tmp_path: Path) -> None:
    check_spec(read_spec(write_example(tmp_path)), Options(allow_code=False))


def test_no_field_that_names_code_or_a_library_is_forgotten() -> None:
    """A new field of these tables is either plain data, listed here, or it belongs into `code_in`."""
    plain = {
        ModelSource: {"onnx", "package", "member", "sha256", "weights"},
        DataSource: {"npz", "member", "npy", "generator", "low", "high", "mean", "std", "seed", "offset"},
        TokenSpec: {"logits", "to"},
        TaskSpec: {"output", "labels", "samples", "allowed_drop"},
        BuildSpec: set(BuildSpec.model_fields) - {"plugins"},
    }
    code = {name for table, known in plain.items() for name in set(table.model_fields) - known}
    assert code == {"network", "engine", "loader", "metric", "plugins", "choose"}
