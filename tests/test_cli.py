"""The command line: subcommands found, mistakes in one line with exit code 4."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from harness.commands import COMMANDS
from harness.errors import BackendUnavailableError, BuildError, UsageError

ROOT = Path(__file__).resolve().parent.parent


def run(capsys, *arguments):
    try:
        code = cli.main(arguments)
    except SystemExit as error:
        code = error.code
    return code, capsys.readouterr()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_help(capsys, name):
    code, said = run(capsys, name.replace("_", "-"), "--help")
    assert code == 0
    assert said.out.startswith(f"usage: trt-harness {name.replace('_', '-')}")


def test_the_list_of_subcommands_is_shown(capsys):
    code, said = run(capsys, "--help")
    assert code == 0
    assert all(name.replace("_", "-") in said.out for name in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["init"], ["init", "a", "--nonsense"]])
def test_a_wrong_command_line_is_one_line_and_exit_code_4(capsys, arguments):
    code, said = run(capsys, *arguments)
    assert code == cli.USAGE_ERROR
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a: b"), 4),
        (BackendUnavailableError("a: b"), 4),
        (PermissionError(13, "b", "a"), 4),
        (BuildError("a: b"), 1),
    ],
)
def test_an_error_is_one_line(capsys, monkeypatch, error, code):
    def fail(_):
        raise error

    monkeypatch.setattr("harness.commands.init.run", fail)
    got, said = run(capsys, "init", "x.onnx")
    assert (got, said.err) == (code, "trt-harness: error: a: b\n")


@pytest.mark.parametrize(
    "command",
    ["init", "inspect", "doctor", "search-fp32 --precision=fp16", "trtexec", "fetch", "report html"],
)
@pytest.mark.parametrize("path", ["absent", "x" * 300], ids=["absent", "endless"])
def test_a_path_that_leads_nowhere_is_a_mistake(capsys, command, path):
    code, said = run(capsys, *command.split(), path)
    assert code == cli.USAGE_ERROR
    assert len(said.err.splitlines()) == 1


def test_an_interruption_has_its_own_exit_code(capsys, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.commands.init.run", stop)
    assert run(capsys, "init", "x.onnx")[0] == cli.INTERRUPTED


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    code = "import sys; from harness.cli import main; sys.exit(main(['doctor']))"
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(ROOT), "TRT_HARNESS_CACHE": str(tmp_path)}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE, env=environment)
    os.close(writer)
    assert done.returncode == cli.CLOSED
    assert done.stderr == b""


def test_the_module_runs_as_the_command_does(tmp_path):
    command = [sys.executable, "-m", "harness.cli", "init", str(tmp_path / "absent.onnx")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 4
    assert done.stderr.startswith("trt-harness: error: ")


def test_a_bug_is_not_hidden(monkeypatch):
    def broken(_):
        raise ZeroDivisionError

    monkeypatch.setattr("harness.commands.init.run", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["init", "x.onnx"])
