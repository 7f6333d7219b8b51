"""The nightly workflow uses options, commands and targets that exist."""

from __future__ import annotations

import re
from pathlib import Path

from harness.commands import COMMANDS
from harness.flags import FLAGS

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = (ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8")


def test_options_exist():
    assert set(re.findall(r"--trt-[a-z-]+", WORKFLOW)) <= {flag.name for flag in FLAGS}


def test_commands_exist():
    used = set(re.findall(r"bin/trt-harness ([a-z0-9-]+)", WORKFLOW))
    assert used
    assert {name.replace("-", "_") for name in used} <= set(COMMANDS)


def test_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"make (zoo|suites|test)\b", WORKFLOW)) <= set(
        re.findall(r"^(\w+):", makefile, re.M)
    )
