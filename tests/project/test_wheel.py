"""The plugin in another repository: installed from a wheel, beside a folder that is called `fixtures` too."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.project import write_case

ROOT = Path(__file__).resolve().parents[2]
PACKED = ("harness", "fixtures", "pyproject.toml", "README.md")

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


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel of this checkout installed, its dependencies left to the environment."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
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
    environment = os.environ | {"PYTHONPATH": str(installed), "TRT_HARNESS_CACHE": str(tmp_path / "cache")}
    said = run(sys.executable, "-m", "pytest", "--trt-backend=onnxruntime", cwd=tmp_path, env=environment)
    assert "3 passed" in said
    assert "models: net (fp32, fp16)" in said
    assert list((tmp_path / "reports").glob("*/results.json"))


@pytest.mark.slow
def test_the_wheel_has_every_package_and_page(installed):
    have = {path.relative_to(installed / "harness") for path in (installed / "harness").rglob("*.*")}
    want = {
        p.relative_to(ROOT / "harness")
        for p in (ROOT / "harness").rglob("*.*")
        if "__pycache__" not in p.parts
    }
    want |= {Path("fixtures", path.name) for path in (ROOT / "fixtures").glob("*.py")}
    assert want <= have
