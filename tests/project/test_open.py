"""What an open project has is there, and says what is so."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import harness
from harness.commands import COMMANDS
from harness.flags import FLAGS

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/api.md", "docs/portability.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_semantic_and_the_changelog_is_newest_first() -> None:
    assert re.fullmatch(r"0\.\d+\.\d+", harness.__version__)
    headings = re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.M)
    assert headings[0] == "Unreleased"
    numbers = [tuple(map(int, heading.split()[0].split("."))) for heading in headings[1:]]
    assert numbers == sorted(numbers, reverse=True)
    assert harness.__version__ in [".".join(map(str, number)) for number in numbers]


@pytest.mark.parametrize("page", PAGES)
def test_links_commands_and_options_of_a_page_exist(page: str) -> None:
    text = read(page)
    local = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in local if not (ROOT / page).parent.joinpath(link).exists()] == []
    used = set(re.findall(r"`trt-harness ([a-z][a-z0-9-]+)", text))
    assert {name.replace("-", "_") for name in used} <= {*COMMANDS}
    assert set(re.findall(r"--trt-[a-z0-9-]+", text)) <= {flag.name for flag in FLAGS}


@pytest.mark.parametrize("form", FORMS, ids=[form.stem for form in FORMS])
def test_forms_of_issues_ask_for_doctor_and_a_bundle(form: Path) -> None:
    text = form.read_text(encoding="utf-8")
    if form.stem in ("bug", "wrong_verdict"):
        assert "trt-harness doctor" in text
        assert "trt-harness bundle" in text


def test_pull_requests_run_on_every_python_and_system_that_is_named() -> None:
    text = read(".github/workflows/ci.yml")
    for word in (
        '"3.11", "3.12", "3.13", "3.14"',
        "windows-latest",
        "macos-latest",
        "ubuntu-24.04-arm",
        "make lint",
    ):
        assert word in text
    assert "id-token: write" in read(".github/workflows/release.yml")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=[workflow.stem for workflow in WORKFLOWS])
def test_actionlint_passes(workflow: Path) -> None:
    tool = shutil.which("actionlint")
    if tool is None:
        pytest.skip("actionlint is not installed; ci.yml runs it")
    done = subprocess.run([tool, str(workflow)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
