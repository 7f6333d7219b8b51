"""`trt-harness lower`, `build` and `validate`, and what every command has."""

from __future__ import annotations

import json

import onnx
import pytest

from harness import cli
from harness.api import suites
from harness.commands import COMMANDS
from harness.spec.stored import sha256_of
from tests.helpers.project import write_case, write_model


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path / "cache"))
    write_model(tmp_path / "net.onnx")
    return tmp_path


def test_every_command_takes_a_cache_folder(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            cli.main([name.replace("_", "-"), "--help"])
        assert ended.value.code == 0
        assert "--cache-dir" in capsys.readouterr().out


def test_a_cache_folder_holds_while_the_command_runs_alone(here, monkeypatch, capsys):
    monkeypatch.delenv("TRT_HARNESS_CACHE")
    assert cli.main(["trtexec", "net.onnx", "--precision", "int8", "--cache-dir", "own"]) == 0
    assert (here / "own" / "calibration").is_dir()
    assert "trtexec --onnx=net-int8.onnx" in capsys.readouterr().out
    assert "TRT_HARNESS_CACHE" not in cli.os.environ


@pytest.mark.usefixtures("here")
def test_lower_writes_a_file_that_keeps_nodes(capsys):
    assert (
        cli.main(["lower", "net.onnx", "--precision", "fp16", "--fp32-node", "mat*", "-o", "out.onnx"]) == 0
    )
    assert "1 in FP32" in capsys.readouterr().out
    onnx.checker.check_model("out.onnx", full_check=True)
    assert cli.main(["lower", "net.onnx", "--precision", "fp16", "-o", "out.onnx"]) == cli.USAGE_ERROR
    assert "--force overwrites it" in capsys.readouterr().err
    assert cli.main(["lower", "net.onnx", "--precision", "fp16", "-o", "nowhere/out.onnx"]) == cli.USAGE_ERROR


def test_build_hands_out_what_was_judged(here, capsys):
    spec = write_case(here / "case", precisions=("fp16",))
    assert cli.main(["build", str(spec), "--precision", "fp16", "--backend", "onnxruntime", "-o", "out"]) == 0
    told = json.loads((here / "out" / "manifest.json").read_text())
    assert told["verdict"] == "pass"
    assert told["figures"]["mre"] < 5e-3
    assert told["check"].startswith(f"trt-harness validate {spec} --precision=fp16")
    assert told["check"] in capsys.readouterr().out
    assert {"net-fp16.onnx"} < set(told["sha256"])
    assert all(sha256_of(here / "out" / name) == digest for name, digest in told["sha256"].items())
    onnx.checker.check_model(str(here / "out" / "net-fp16.onnx"))


def test_build_refuses_what_does_not_pass(here, capsys):
    tight = "[precision.fp16]\ntolerance = { expected = 1e-12, limit = 1e-12 }\n"
    spec = write_case(here / "case", precisions=("fp16",), extra=tight)
    asked = ["build", str(spec), "--precision", "fp16", "--backend", "onnxruntime", "-o", "out"]
    assert cli.main(asked) == cli.FAILURE
    assert "the verdict is precision-limited, not pass" in capsys.readouterr().out
    assert not (here / "out").exists()
    assert cli.main([*asked, "--anyway"]) == 0
    assert json.loads((here / "out" / "manifest.json").read_text())["verdict"] == "precision-limited"
    assert cli.main(asked) == cli.USAGE_ERROR
    assert "must be a new or empty folder" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["validate", "nothing.onnx"], "nothing.onnx: no such file or folder"),
        (["validate", "net.onnx", "--check", "all"], "must be one of accuracy, engines"),
        (["lower", "net.onnx", "--precision", "fp1"], "must be one of fp32"),
        (["lower", "net.onnx", "--precision", "fp16", "--fp32-node", "z"], "names what no node matches"),
        (["search-fp32", "nothing.onnx", "--precision", "fp16"], "no such file"),
        (["trtexec", "nothing.onnx"], "no such file"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, says):
    assert cli.main(arguments) == cli.USAGE_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_validate_asks_the_suites_for_what_was_asked(here, monkeypatch):
    asked = {}
    monkeypatch.setattr(suites, "execute", lambda run, _: asked.update(run=run) or _Done())
    code = cli.main(
        ["validate", "net.onnx", "--precision", "bf16", "--strict", "--cache-dir", "c", "-n", "2"]
    )
    run = asked["run"]
    assert code == 1
    paths = {f"--trt-onnx={here / 'net.onnx'}", f"--trt-cache-dir={here / 'c'}"}
    assert set(run.arguments) == {*paths, "--trt-precision=bf16", "--trt-strict"}
    assert (run.command, run.workers) == ("trt-harness validate net.onnx --cache-dir=c --strict", "2")


class _Done:
    returncode = suites.FAILED


@pytest.mark.parametrize(("status", "code"), [(0, 0), (1, 1), (2, 1), (3, 1), (4, 4), (5, 4)])
def test_exit_codes_of_pytest_are_told_in_ours(status, code):
    assert suites.exit_code(status) == code
