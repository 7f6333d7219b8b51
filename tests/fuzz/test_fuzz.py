"""Seeded hostile files, 2,000 in all: each is read, or refused in one line; `make fuzz` tries 100,000.

Each target runs in a child process, since a model may crash the libraries that read it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UsageError
from tests.fuzz import guard
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
CASES = -(-2000 // len(TARGETS))


def child(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "tests.fuzz"]), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace", timeout=600,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_hostile_files_are_read_or_refused_in_one_line(tmp_path: Path, target: str) -> None:
    done = child("--target", target, "--cases", str(CASES), "--seed", "1", "--folder", str(tmp_path))
    assert done.returncode == 0, f"the case is in {tmp_path}\n{done.stderr[-4000:]}"
    assert f"{target}: {CASES} cases" in done.stdout


GUARDED = """
import os, subprocess, sys
from pathlib import Path
from tests.fuzz import guard
guard.install()
here = Path(sys.argv[1])
with guard.confined(here):
    (here / "inside").write_text("fine")
    {misdeed}
"""


@pytest.mark.parametrize(
    "misdeed",
    [
        "open(os.path.expanduser('~/.trt-harness-escape'), 'w')",
        "os.mkdir('/trt-harness-escape')",
        "os.symlink('/etc/passwd', '/trt-harness-escape')",
        "subprocess.run(['true'])",
        "os.system('true')",
    ],
)
def test_the_guard_sees_what_must_not_happen(tmp_path: Path, misdeed: str) -> None:
    done = child(str(tmp_path), code=GUARDED.format(misdeed=misdeed))
    assert done.returncode != 0
    assert "EscapeError" in done.stderr
    assert (tmp_path / "inside").read_text() == "fine"


@pytest.mark.parametrize("text", ["", "a\nb", "\x1b[2J", "x" * 5000, "\u202etxt"])
def test_the_guard_refuses_errors_that_are_no_line(text: str) -> None:
    with pytest.raises(guard.EscapeError):
        guard.require_line(text)


@pytest.mark.parametrize("text", ["\x1b[2Ja", "a\nb", "x" * 1_000_000, "\u202etxt", "a\x00b", "\ud800"])
def test_errors_of_users_are_one_printable_line_whatever_is_in_them(text: str) -> None:
    guard.require_line(str(UsageError(text)))
