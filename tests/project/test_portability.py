"""Without what Linux alone has: the suites and the commands pass, and say what stands in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import DiedError
from harness.isolation import parent, pipes, watch
from harness.precision import Precision
from harness.spec.file import read_spec, write_fp32_nodes
from tests.helpers.models import write_example
from tests.helpers.project import write_case, write_model

ROOT = Path(__file__).resolve().parents[2]
BARE = ROOT / "tests" / "helpers" / "bare"
STAND_INS = (
    "no limit of memory: child processes are watched instead",
    "no signal at a parent's death",
    "no locks of files",
    "no /proc",
)


def bare(folder: Path, *arguments: str, hide: bool = True) -> subprocess.CompletedProcess[str]:
    """This interpreter on a system that lacks what `BARE` hides."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(BARE), str(ROOT)] if hide else [str(ROOT)]),
        "TRT_HARNESS_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def test_what_is_hidden_is_hidden(tmp_path: Path) -> None:
    code = """
import ctypes, os, pathlib
from harness.isolation import watch
from harness.storage import locks
from harness import processors
assert locks.SOFT and not watch.enforces_limits() and not watch.die_with_parent()
assert not hasattr(os, "sched_getaffinity") and list(processors.limits()) == []
assert not pathlib.Path("/proc/self").exists()
"""
    done = bare(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


def test_doctor_says_what_stands_in(tmp_path: Path) -> None:
    done = bare(tmp_path, "-m", "harness.cli", "doctor")
    assert [text for text in STAND_INS if text not in done.stdout] == [], done.stdout + done.stderr


@pytest.mark.slow
def test_the_suites_say_what_they_say_on_a_whole_system(tmp_path: Path) -> None:
    write_case(tmp_path / "net", precisions=("fp32", "fp16", "int8"))
    asked = ("-m", "harness.cli", "validate", "net", "--backend=onnxruntime")
    found = [bare(tmp_path, *asked, hide=hide) for hide in (True, False)]
    assert [done.returncode for done in found] == [0, 0], found[0].stdout + found[0].stderr
    verdicts = [re.findall(r"^net +(\S+) +([a-z-]+)", done.stdout, re.M) for done in found]
    assert verdicts[0] == verdicts[1]
    assert dict(verdicts[0]) | {"fp32": "pass", "fp16": "pass"} == dict(verdicts[0])


COMMANDS = [
    ("init", "mine.onnx", "-o", "spec.toml"),
    ("lower", "mine.onnx", "--precision=int8", "-o", "out.onnx"),
    ("trtexec", "mine.onnx", "--precision=fp16"),
    ("search-fp32", "mine.onnx", "--precision=fp16", "--backend=onnxruntime", "--no-latency"),
    ("bundle", "mine-fp16", "--onnx=mine.onnx", "--backend=onnxruntime", "--passing"),
    ("prune", "--unused-days=0"),
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_the_commands_pass(tmp_path: Path, command: tuple[str, ...]) -> None:
    write_model(tmp_path / "mine.onnx")
    done = bare(tmp_path, "-m", "harness.cli", *command)
    assert done.returncode == 0, done.stdout + done.stderr


HUNGRY = """
from harness.errors import DiedError
from harness.isolation.parent import isolated
from tests.project.test_portability import eat
try:
    isolated(eat, 2**31, memory_bytes=2**29)
except DiedError as error:
    print(error)
"""


def eat(size: int) -> int:
    """Hold `size` bytes, a little more at a time."""
    held = []
    for _ in range(size // 2**24):
        held.append(bytearray(2**24))
        time.sleep(0.005)
    return len(held)


def test_a_child_that_eats_memory_is_ended_without_a_limit_of_the_system(tmp_path: Path) -> None:
    done = bare(tmp_path, "-c", HUNGRY)
    assert "ran out of memory (memory limit 536870912 bytes); it was watched" in done.stdout, done.stderr


ORPHANED = """
import os, threading, time
from harness.isolation.parent import isolated
from tests.project.test_portability import linger
threading.Thread(target=isolated, args=(linger, "alive"), daemon=True).start()
while not os.path.exists("alive"):
    time.sleep(0.05)
os._exit(9)
"""


def linger(name: str) -> None:
    """Write the time into a file again and again."""
    while True:
        Path(name).write_text(str(time.monotonic()))
        time.sleep(0.02)


def test_a_child_ends_with_its_parent_without_a_signal(tmp_path: Path) -> None:
    done = bare(tmp_path, "-c", ORPHANED)
    assert done.returncode == 9, done.stderr
    time.sleep(1.0)
    last = (tmp_path / "alive").read_text()
    time.sleep(0.5)
    assert (tmp_path / "alive").read_text() == last


def test_line_ends_of_a_spec_stay(tmp_path: Path) -> None:
    for name, end in (("unix", b"\n"), ("windows", b"\r\n")):
        (tmp_path / name).mkdir()
        path = write_example(tmp_path / name)
        path.write_bytes(path.read_bytes().replace(b"\n", end))
        write_fp32_nodes(path, Precision.FP16, ["layer/gemm", "layer/relu"])
        raw = path.read_bytes()
        assert raw.count(end) == raw.count(b"\n")
        assert read_spec(path).plan(Precision.FP16).fp32_nodes == ("layer/gemm", "layer/relu")


def test_a_pipe_is_waited_for_by_looking() -> None:
    asked = iter([False, False, True])
    assert pipes.looked(lambda: next(asked), 5.0)
    before = time.monotonic()
    assert not pipes.looked(lambda: False, 0.05)
    assert time.monotonic() - before < 2.0


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (0xC0000005, "ended with exit status 3221225477 (access violation)"),
        (watch.FULL, "ran out of memory"),
        (-9, "died of SIGKILL"),
        (-200, "died of signal 200"),
        (3, "ended with exit status 3"),
    ],
)
def test_a_death_is_told_in_the_words_of_its_system(status: int, says: str) -> None:
    assert says in str(DiedError(parent._death(status, "", 1.0, None)))
