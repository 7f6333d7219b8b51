"""Nothing that lies in the current folder is imported or run by what the harness starts."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness.isolation import start
from harness.isolation.parent import isolated, release
from tests.helpers.project import SUITES, write_case, write_project

ROOT = SUITES.parent
HIDDEN = (
    "argparse", "ctypes", "faulthandler", "filelock", "harness", "importlib", "json", "logging",
    "ml_dtypes", "npm", "numpy", "onnx", "onnx_ir", "onnxruntime", "pickle", "pip",
    "platform", "psutil", "re", "resource", "selectors", "sitecustomize", "socket", "struct",
    "subprocess", "tempfile", "typing", "usercustomize",
)  # fmt: skip
"""Modules that somebody imports while a child starts and works."""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: each module of it, and each program, leaves a file `taken` with its name."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in HIDDEN:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'a').write('{name} ')\n")
    for name in ("npm", "nvidia-smi", "pip"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> '{tmp_path / 'taken'}'\n")
        (folder / name).chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRT_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{os.environ['PATH']}")
    return folder


def taken(folder: Path) -> str:
    file = folder.parent / "taken"
    return file.read_text() if file.exists() else ""


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`trt-harness` as its console script starts it: the script's folder is what Python adds."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.cli import main; sys.exit(main())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


def test_the_folder_does_harm(folder: Path) -> None:
    """The test of the tests: a child that is started as usual takes what lies there."""
    subprocess.run([sys.executable, "-c", "import json"], check=True)
    subprocess.run(["npm"], check=True)
    assert taken(folder).split() == ["json", "npm"]


def test_a_child_takes_nothing(folder: Path) -> None:
    release()
    assert isolated(len, "abc") == 3
    assert taken(folder) == ""


@pytest.mark.parametrize("spelled", ["", ".", "absolute"])
def test_a_child_of_a_process_that_has_the_folder_in_its_path_takes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    """As under `python -m pytest`, or where a conftest.py lies there."""
    monkeypatch.syspath_prepend(str(folder) if spelled == "absolute" else spelled)
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}.{os.pathsep}sub")
    release()
    path = isolated(_path_after_imports)
    assert taken(folder) == ""
    assert path[-1] == str(folder), "what lies there and nowhere else is found all the same"
    assert isolated(os.getcwd) == str(folder)


def _path_after_imports() -> list[str]:
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401

    return sys.path


@pytest.mark.slow
def test_a_draft_takes_nothing(folder: Path) -> None:
    write_case(folder.parent / "case")
    done = command_line("init", str(folder.parent / "case" / "model.onnx"), "--out", "spec.toml")
    assert done.returncode == 0, done.stderr
    assert taken(folder) == ""


def test_pip_takes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = packaged(folder.parent, monkeypatch)
    done = command_line("fetch", str(spec), "--dir", "relative")
    assert done.returncode == 0, done.stderr
    assert "1 of them new" in done.stdout
    assert taken(folder) == ""


def packaged(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec whose model is in a wheel that pip finds without a network."""
    spec = write_case(root / "case")
    model = (root / "case" / "model.onnx").read_bytes()
    with zipfile.ZipFile(root / "thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing/model.onnx", model)
        wheel.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        wheel.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("thing-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(model).hexdigest()
    table = f'model = {{ package = "thing==1.0", member = "thing/model.onnx", sha256 = "{digest}" }}'
    spec.write_text(spec.read_text().replace('model.onnx = "model.onnx"', table))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(root))
    return spec


@pytest.mark.slow
@pytest.mark.skipif(start.tool("npm") is None, reason="npm is not installed")
def test_npm_takes_no_settings_of_a_project_around(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with registry(asked) as hostile, registry([]) as own:
        (folder / "package.json").write_text("{}")
        (folder / ".npmrc").write_text(f"registry={hostile}\n")
        monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(folder.parent / "npmrc"))
        (folder.parent / "npmrc").write_text(f"registry={own}\nfetch-retries=0\n")
        spec = write_case(folder.parent / "case")
        table = 'model = { package = "npm:thing@1.0.0", member = "package/m.onnx", sha256 = "%s" }' % (
            "0" * 64
        )
        spec.write_text(spec.read_text().replace('model.onnx = "model.onnx"', table))
        done = command_line("fetch", str(spec), "--dir", str(folder / "cache"))
    assert "npm could not fetch it" in done.stderr
    assert asked == []
    assert taken(folder) == ""


class registry:  # noqa: N801 - used as a context
    """A registry that has nothing, and notes in `asked` what it is asked for."""

    def __init__(self, asked: list[str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_a_run_takes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]) -> None:
    """pytest's program, whose path is this project's; only what pytest itself reads lies in the folder.

    Where another `harness` lies the plugin stays out, which tests of the plugin show.
    """
    monkeypatch.chdir(folder)
    (folder / "harness.py").unlink()
    write_project(folder, "engines", "outputs", precisions=("fp32", "fp16"))
    (folder / "conftest.py").write_text("raise SystemExit('conftest')\n")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pytest; sys.exit(pytest.main())"
    line = [sys.executable, "-P", "-c", code, "suites", "--noconftest", "-p", "trt_harness_pytest"]
    line += ["--trt-no-code", "--trt-backend=onnxruntime", "-p", "no:cacheprovider", *workers]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert taken(folder) == ""
