"""Bundles: whole, readable without this project, and as red or green as the case they were made from."""

import json
import os
import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from harness import cli
from harness.commands.bundle import _as_run
from harness.options import Options
from harness.records import Record
from harness.report import results as results_json
from harness.report.results import Results
from tests.helpers.project import write_case

WHOLE = {
    "model.onnx", "lowered.onnx", "emulation.onnx", "inputs.npz", "expected.npz", "actual.npz", "case.json",
    "manifest.json", "environment.json", "failure.txt", "reproduce.py", "commands.txt", "data_loader.py",
    "t0.bin",
}  # fmt: skip


def failing_case(folder: Path, limit: float = 1e-9) -> Path:
    return write_case(folder, precisions=("fp16",), extra=f"[precision.fp16.tolerance]\nlimit = {limit}\n")


def bundle(tmp_path: Path, *arguments: str, case: str = "net-fp16", spec: Path | None = None) -> int:
    spec = spec or failing_case(tmp_path / "net")
    options = [f"--trt-spec={spec}", f"--trt-cache-dir={tmp_path / 'cache'}", "--trt-backend=onnxruntime"]
    return cli.main(["bundle", case, "-o", str(tmp_path / "out"), *options, *arguments])


def reproduce(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script where this repository cannot be imported."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    script = "runpy.run_path('reproduce.py', run_name='__main__')"
    code = f"import sys, runpy; sys.modules['harness'] = None; {script}"
    return subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    assert bundle(folder) == 0
    return folder / "out"


def test_a_bundle_is_whole_in_folder_and_zip(made: Path) -> None:
    assert {file.name for file in made.iterdir()} == WHOLE
    with zipfile.ZipFile(made.with_name("out.zip")) as archive:
        files = {Path(name).name for name in archive.namelist() if not name.endswith("/")}
    assert files == WHOLE
    case = json.loads((made / "case.json").read_text())
    assert (case["ran"], case["verdict"], case["fails"]) == ("emulation.onnx", "precision-limited", True)
    assert json.loads((made / "manifest.json").read_text())["precision"] == "fp16"
    assert "packages" in json.loads((made / "environment.json").read_text())
    assert "net[fp16] profile" in (made / "failure.txt").read_text()


def test_its_script_fails_by_the_same_error_without_this_project(made: Path) -> None:
    done = reproduce(made)
    assert done.returncode == 1, done.stderr
    mre = json.loads((made / "case.json").read_text())["mre"]
    assert f"mre {mre:.3e}" in done.stdout
    assert "FAIL" in done.stdout


def test_its_outputs_are_what_the_models_give(made: Path) -> None:
    from onnxruntime import InferenceSession

    feeds = {"x": np.load(made / "inputs.npz")["t0"]}
    for file, outputs in (("model.onnx", "expected.npz"), ("emulation.onnx", "actual.npz")):
        found = InferenceSession(made / file, providers=["CPUExecutionProvider"]).run(None, feeds)
        np.testing.assert_allclose(found[0], np.load(made / outputs)["t0"], rtol=1e-6)
    onnx.checker.check_model(made / "lowered.onnx")
    assert np.fromfile(made / "t0.bin", np.float32).tolist() == feeds["x"].ravel().tolist()


def test_its_command_lines_name_its_files(made: Path) -> None:
    text = (made / "commands.txt").read_text()
    assert "polygraphy run model.onnx --onnxrt" in text
    assert "polygraphy run emulation.onnx --onnxrt" in text
    assert "trtexec --onnx=lowered.onnx" in text
    assert "--loadInputs=x:t0.bin" in text
    assert "debug reduce" not in text


@pytest.mark.slow
def test_polygraphy_shows_the_same(made: Path) -> None:
    commands = [
        line for line in (made / "commands.txt").read_text().splitlines() if line.startswith("polygraphy")
    ]
    program = str(Path(sys.executable).with_name("polygraphy"))
    found = [
        subprocess.run(
            [program, *shlex.split(line)[1:]], cwd=made, capture_output=True, text=True, check=False
        )
        for line in commands
    ]
    (made / "expected.json").unlink()
    assert [done.returncode for done in found] == [0, 1], found[-1].stdout
    assert "Mismatched outputs: ['y']" in found[-1].stdout


def test_a_case_that_passes_is_bundled_only_if_asked(tmp_path: Path, capsys) -> None:
    spec = write_case(tmp_path / "net", precisions=("fp16",))
    assert bundle(tmp_path, spec=spec) == 4
    assert "net[fp16]: passes at all" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert bundle(tmp_path, "--passing", spec=spec) == 0
    assert reproduce(tmp_path / "out").returncode == 0


def test_nothing_is_overwritten_unless_forced(tmp_path: Path, capsys) -> None:
    spec = failing_case(tmp_path / "net")
    (tmp_path / "out").mkdir()
    assert bundle(tmp_path, spec=spec) == 4
    assert "--force overwrites it" in capsys.readouterr().err
    assert bundle(tmp_path, "--force", spec=spec) == 0


def test_a_case_that_is_not_there(tmp_path: Path, capsys) -> None:
    assert bundle(tmp_path, case="net-int8") == 4
    assert "no such case, run or file; the cases are net-fp16" in capsys.readouterr().err


def test_a_runs_results_name_case_and_options(tmp_path: Path, capsys) -> None:
    spec = failing_case(tmp_path / "net")
    record = Record("outputs", "net", "fp16", "onnxruntime", "precision-limited")
    run = Results("r", "now", records=(record,), options={"specs": [str(spec)], "backend": "onnxruntime"})
    results_json.write(run, tmp_path / "run")
    arguments = [
        "bundle",
        str(tmp_path / "run"),
        "-o",
        str(tmp_path / "out"),
        f"--trt-cache-dir={tmp_path / 'c'}",
    ]
    assert cli.main(arguments) == 0
    assert "net[fp16]" in capsys.readouterr().out
    good = Results("r", "now", records=(Record("outputs", "net", "fp16", "onnxruntime", "pass"),))
    results_json.write(good, tmp_path / "run")
    assert cli.main([*arguments, "--force"]) == 4
    assert "no case of this run has outputs that failed" in capsys.readouterr().err


AS_RUN = {
    "specs": (Path("a/spec.toml"),), "onnx": (Path("m.onnx"),), "backend": "onnxruntime",
    "provider": "CUDAExecutionProvider", "strict": True, "data": Path("x.npz"), "shapes": ("x=1x3",),
    "tolerance": "1e-3", "effort": "thorough", "allow_code": False,
}  # fmt: skip
"""What decides which failure a case shows, and what may run: none of it is lost from a run to its bundle."""


@pytest.mark.parametrize("name", AS_RUN)
def test_a_bundle_of_a_run_asks_as_the_run_did(name: str) -> None:
    ran = replace(Options(), **{name: AS_RUN[name]})
    assert getattr(_as_run(Options(), ran.to_json()), name) == AS_RUN[name]
    assert _as_run(Options(), Options().to_json()) == Options()


def test_the_command_line_wins_over_the_run_and_odd_results_do_no_harm() -> None:
    asked = replace(Options(), effort="quick")
    assert _as_run(asked, replace(Options(), effort="thorough").to_json()).effort == "quick"
    assert _as_run(Options(), {"effort": "no such"}).effort == "normal"


def test_its_script_does_not_take_another_provider_for_the_one_that_failed(
    made: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(made, tmp_path / "copy")
    case = json.loads((made / "case.json").read_text())
    case["providers"] = [["CUDAExecutionProvider", {}], ["CPUExecutionProvider", {}]]
    (tmp_path / "copy" / "case.json").write_text(json.dumps(case))
    done = reproduce(tmp_path / "copy")
    if "FAIL" not in done.stdout:  # Where there is a GPU it runs there.
        assert "fell back from CUDAExecutionProvider to CPUExecutionProvider" in done.stderr
    assert done.returncode == 1
