"""The plugin in another repository: installed from a wheel, beside a folder that is called `fixtures` too."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.project import write_case, write_model

ROOT = Path(__file__).resolve().parents[2]
PACKED = ("harness", "fixtures", "suites", "trt_harness_pytest.py", "pyproject.toml", "README.md", "LICENSE")

TEST = """\
import fixtures
import harness.fixtures
from harness.verdict.validate import answers, explain


def test_the_installed_one_is_used(request):
    assert fixtures.MINE == "theirs"
    assert "{target}" in harness.__file__
    assert "{target}" in harness.fixtures.__file__


def test_outputs(case, question, record, reproduce):
    found = list(answers(question))
    assert all(answer.triage.verdict == "pass" for answer in found), explain(case.id, found, reproduce)
    record("pass", kind="outputs")
"""


def run(*command, **settings):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(installed, folder):
    """The wheel on the path, and a cache of its own."""
    return os.environ | {"PYTHONPATH": str(installed), "TRT_HARNESS_CACHE": str(folder / ".cache")}


def trt_harness(installed, folder, *arguments):
    """The command of the installed wheel."""
    command = (sys.executable, str(installed / "bin" / "trt-harness"), *arguments, "--backend=onnxruntime")
    settings = {"cwd": folder, "env": environment(installed, folder)}
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel of this checkout installed, its dependencies left to the environment."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "-w", str(folder / "dist"), str(folder))
    (wheel,) = (folder / "dist").glob("*.whl")
    run(*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel))
    return folder / "site"


@pytest.mark.slow
def test_another_repository_uses_the_fixtures(installed, tmp_path):
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "__init__.py").write_text('MINE = "theirs"\n')
    write_case(tmp_path / "models" / "net")
    (tmp_path / "test_mine.py").write_text(TEST.format(target=installed))
    settings = '[tool.pytest]\ntrt_models = ["models"]\npythonpath = ["."]\n'
    (tmp_path / "pyproject.toml").write_text(settings)
    settings = {"cwd": tmp_path, "env": environment(installed, tmp_path)}
    said = run(sys.executable, "-m", "pytest", "--trt-backend=onnxruntime", **settings)
    assert "3 passed" in said
    assert "models: net (fp32, fp16)" in said
    assert list((tmp_path / "reports").glob("*/results.json"))


@pytest.mark.slow
def test_the_wheel_has_every_package_page_and_suite(installed):
    have = {path.relative_to(installed / "harness") for path in (installed / "harness").rglob("*.*")}
    tracked = subprocess.run(
        ["git", "ls-files", "suites"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    want = {
        p.relative_to(ROOT / "harness")
        for p in (ROOT / "harness").rglob("*.*")
        if "__pycache__" not in p.parts
    }
    want |= {Path("fixtures", path.name) for path in (ROOT / "fixtures").glob("*.py")}
    want |= {Path(line) for line in tracked.stdout.splitlines()}
    assert sorted(want - have) == []


@pytest.mark.slow
def test_suites_run_from_an_empty_folder(installed, tmp_path):
    write_model(tmp_path / "mine.onnx")
    asked = ("validate", "mine.onnx", "--precision=fp16", "--check=outputs", "--shape=x=1x4:2x4:3x4")
    done = trt_harness(installed, tmp_path, *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine   fp16       pass" in done.stdout
    (page,) = (tmp_path / "reports").glob("*/report.html")
    assert page.stat().st_size > 10_000


@pytest.mark.slow
def test_a_failure_there_exits_with_1_and_names_the_next_command(installed, tmp_path):
    write_model(tmp_path / "mine.onnx")
    asked = ("validate", "mine.onnx", "--precision=fp16", "--check=outputs", "--tolerance=1e-9")
    done = trt_harness(installed, tmp_path, *asked)
    assert done.returncode == 1, done.stdout + done.stderr
    again = "trt-harness validate mine.onnx --tolerance=1e-9 --backend=onnxruntime"
    assert f"reproduce: {again} --model=mine --precision=fp16 --check=outputs" in done.stdout
    assert "trt-harness search-fp32 " in done.stdout


@pytest.mark.slow
def test_suites_run_by_their_name(installed, tmp_path):
    write_model(tmp_path / "mine.onnx")
    asked = (
        "--pyargs",
        "harness.suites",
        "--trt-onnx=mine.onnx",
        "--trt-precision=fp32",
        "-k",
        "test_outputs",
    )
    pytest_here = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *asked)
    said = run(*pytest_here, cwd=tmp_path, env=environment(installed, tmp_path))
    assert "mine   fp32       pass" in said


THEIRS = """\
import {name}
import fixtures
import suites


def test_theirs():
    assert ({name}.NAME, fixtures.NAME, suites.NAME) == ("theirs",) * 3
"""
LAYOUTS = {"beside": ("", "harness"), "in src": ("src", "harness"), "below": ("", "harness.core")}


@pytest.fixture(params=LAYOUTS)
def foreign(request, tmp_path):
    """A repository with packages of its own called `harness`, `fixtures` and `suites`."""
    below, name = LAYOUTS[request.param]
    for package in ("harness", "fixtures", "suites"):
        (tmp_path / below / package).mkdir(parents=True)
        (tmp_path / below / package / "__init__.py").write_text('NAME = "theirs"\n')
    (tmp_path / below / "harness" / "core.py").write_text('NAME = "theirs"\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_theirs.py").write_text(THEIRS.format(name=name))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {below or '.'}\n")
    write_model(tmp_path / "mine.onnx")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("way", ["pytest", "python -m pytest"])
def test_a_repository_with_a_harness_of_its_own_is_left_alone(installed, foreign, way):
    command = (sys.executable, "-m", "pytest") if way != "pytest" else (sys.executable, "-P", "-m", "pytest")
    settings = {"cwd": foreign, "env": environment(installed, foreign)}
    assert "1 passed" in run(*command, **settings)
    asked = [*command, "--trt-onnx=mine.onnx"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, **settings)
    assert done.returncode == 4, done.stdout + done.stderr
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert line.startswith("ERROR: --trt-onnx: `harness` is ")
    assert "trt-harness validate MODEL" in line


@pytest.mark.slow
def test_validate_works_beside_a_foreign_harness(installed, foreign):
    done = trt_harness(installed, foreign, "validate", "mine.onnx", "--precision=fp32", "--check=outputs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine   fp32       pass" in done.stdout
