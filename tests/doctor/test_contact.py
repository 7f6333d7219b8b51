"""First contact: in full on doubles, as far as building goes on TensorRT-RTX, and what differs is told."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main
from harness.doctor import contact
from harness.doctor.bench import Bench, DiffersError
from harness.doctor.contact import Outcome, as_table, judged, meet, save
from harness.doctor.trials import TRIALS
from harness.errors import BackendUnavailableError
from tests.helpers.tensorrt import rtx
from tests.helpers.trt_double.backend import Works

WITHOUT_OUTPUT = ("input that holds a shape", "timing cache")
ABSENT_FROM_RTX = {
    "output whose shape depends on data", "empty tensor", "weak typing: fp16 by flag",
    "weak typing: int8 by calibrator", "timing cache", "version-compatible plan",
}  # fmt: skip


@pytest.mark.parametrize("name", TRIALS)
def test_every_trial_runs_in_full_on_the_double(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = judged(Works(monkeypatch).backend, name)
    assert (found.state, found.call, found.got, found.expected) == ("works", "", "", "")


@pytest.mark.parametrize("name", TRIALS)
def test_every_trial_goes_as_far_as_building_on_rtx(name: str) -> None:
    found = contact.tried(rtx().name, name)
    refusal = name == "input that holds a shape"
    wanted = "absent" if name in ABSENT_FROM_RTX else "works" if refusal else "builds"
    assert found.state == wanted, found


@pytest.mark.parametrize("name", [name for name in TRIALS if name not in WITHOUT_OUTPUT])
def test_every_trial_finds_a_runtime_that_computes_something_else(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Every output is one element off, and every refusal is an engine."""
    works = Works(monkeypatch)
    from tests.helpers.trt_double.context import Context

    compute = Context._compute

    def spoilt(self: Context, feeds: Any) -> dict[str, Any]:
        found = compute(self, feeds)
        return {key: _spoilt(value) for key, value in found.items()}

    monkeypatch.setattr(Context, "_compute", spoilt)
    if name in ("plan that is damaged, or of another version",):
        works.plans.update(dict.fromkeys([b"garbage" * 512], None))  # type: ignore[arg-type]
        monkeypatch.setattr("harness.doctor.trials._refused", _opens)
    if name == "inspector, and the audit of its layers":
        monkeypatch.setattr("harness.doctor.trials.count_precisions", lambda _: {"FP32": 1})
    assert judged(works.backend, name).state == "differs"


def _opens(*_: object) -> None:
    raise DiffersError("load", "an engine", "a refusal")


def _spoilt(value: Any) -> Any:
    if value.size == 0:
        return np.ones((1, *value.shape[1:]), value.dtype)
    changed = value.copy()
    changed.reshape(-1)[0] += 100
    return changed


def test_a_timing_cache_that_stays_empty_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    works = Works(monkeypatch)
    monkeypatch.setattr(Path, "write_bytes", lambda self, _: self.touch())
    found = judged(works.backend, "timing cache")
    assert found.state == "differs"


def test_a_refusal_that_does_not_come_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    works = Works(monkeypatch)
    works.takes_shapes = True
    found = judged(works.backend, "input that holds a shape")
    assert (found.state, found.got) == ("differs", "an engine")


def test_what_crashes_or_hangs_is_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object, **__: object) -> None:
        from harness.errors import DiedError

        raise DiedError("tried: killed by SIGSEGV", "")

    monkeypatch.setattr("harness.isolation.parent.isolated", dies)
    found = contact.in_child("tensorrt", "static shapes")
    assert (found.state, found.call) == ("differs", "child process")
    assert "SIGSEGV" in found.got


def test_an_unexpected_error_is_told_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Bench) -> None:
        raise KeyError("odd")

    monkeypatch.setitem(TRIALS, "static shapes", broken)
    works = Works(monkeypatch)
    found = meet(["tensorrt"], lambda _, name: judged(works.backend, name))
    assert [outcome.state for outcome in found].count("differs") == 1
    assert found[0].got == "KeyError: 'odd'"


OUTCOMES = [
    Outcome("tensorrt", "static shapes", "works", duration_s=0.2),
    Outcome("tensorrt", "two profiles", "differs", "run", "shape [1]", "shape [2]"),
    Outcome("tensorrt_rtx", "static shapes", "builds", got=f"no GPU in {Path.home()}/x"),
]


def test_the_table_tells_call_result_and_expectation() -> None:
    lines = as_table(OUTCOMES).splitlines()
    assert lines[0] == "tensorrt: 1 works, 1 DIFFERS from what we believe"
    assert lines[2].endswith("run: got shape [1], expected shape [2]")
    assert lines[3] == "tensorrt_rtx: 1 builds, cannot run here"


def test_the_bundle_is_whole_and_names_no_home(tmp_path: Path) -> None:
    save(tmp_path / "b.zip", OUTCOMES, ["ok python 3"])
    with zipfile.ZipFile(tmp_path / "b.zip") as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert texts.keys() == {"table.txt", "outcomes.json", "doctor.txt"}
    assert json.loads(texts["outcomes.json"])[1]["expected"] == "shape [2]"
    assert not any(str(Path.home()) in text for text in texts.values())
    assert texts["doctor.txt"] == "ok python 3\n"


def test_the_command_prints_saves_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contact, "installed", lambda: ["tensorrt"])
    monkeypatch.setattr(contact, "meet", lambda _: OUTCOMES)
    monkeypatch.setattr("harness.doctor.checks.examine", lambda _: [])
    assert main(["doctor", "--try", "--save", str(tmp_path / "b.zip")]) == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert (tmp_path / "b.zip").is_file()
    monkeypatch.setattr(contact, "meet", lambda _: OUTCOMES[:1])
    assert main(["doctor", "--try"]) == 0
    assert main(["doctor", "--save", "x.zip"]) == 4


def test_without_bindings_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise BackendUnavailableError(f"{name} is not installed")

    monkeypatch.setattr("harness.backends.tensorrt.bindings.load_bindings", missing)
    with pytest.raises(BackendUnavailableError, match="tensorrt is not installed; tensorrt_rtx is not"):
        contact.installed()
