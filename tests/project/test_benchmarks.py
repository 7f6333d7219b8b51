"""The command lines of the benchmarks: help, and mistakes in one line; no figures are taken."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import command, memory

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("calibration", "false_alarms", "lowering", "models", "scale", "search", "spoil", "timing_overhead")


def run(script, folder, *arguments):
    """The finished process of a script, run in `folder`."""
    line = [sys.executable, "-m", f"benchmarks.{script}", *arguments]
    environment = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(line, check=False, cwd=folder, env=environment, capture_output=True, text=True)


def is_package(path, script):
    """Whether `path` is what `python -m` runs of the package `script`."""
    return path.name == "__main__.py" and path.parent.name == script


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_what_a_script_is_for(tmp_path, script):
    done = run(script, tmp_path, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m benchmarks.{script} ")
    source = next(p for p in (ROOT / "benchmarks").rglob("*.py") if p.stem == script or is_package(p, script))
    assert source.read_text().splitlines()[0].strip('"') in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_option_is_one_line(tmp_path, script):
    done = run(script, tmp_path, "--nonsense")
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("check", "wrong", "rule"),
    [
        (command.count, "0", "must be a whole number >= 1"),
        (command.count, "all", "must be a whole number >= 1"),
        (command.one_of(["collect", "report"]), "colect", "must be one of collect, report"),
    ],
)
def test_a_wrong_argument_is_one_line(monkeypatch, capsys, check, wrong, rule):
    monkeypatch.setattr(sys, "argv", ["scale", wrong])
    with pytest.raises(SystemExit) as ended:
        command.arguments("scale", None, what={"nargs": "*", "type": check})
    assert ended.value.code == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{wrong!r} {rule}" in line


def test_several_arguments_may_be_none_at_all(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scale"])
    found = command.arguments("scale", None, parts={"nargs": "*", "type": command.one_of(["report"])})
    assert found.parts == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"FOLDER = .*cannot be made"):
        command.made(str(tmp_path / "file"))


def test_a_folder_is_made_or_temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lowering", str(tmp_path / "models")])
    with command.folder("lowering", None) as found:
        assert found == tmp_path / "models"
    assert found.is_dir()
    monkeypatch.setattr(sys, "argv", ["lowering"])
    with command.folder("lowering", None) as found:
        assert found.is_dir()
    assert not found.exists()


def test_a_process_does_not_inherit_its_parents_peak():
    weight = bytearray(300 * 2**20)
    code = "from benchmarks.memory import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert int(done.stdout) < len(weight) / 2
    assert memory.peak_bytes() > len(weight)
