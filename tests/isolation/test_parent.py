"""A crash, a hang or a flood of memory in a child is an error here that says what happened."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
import time

import pytest

from harness.errors import DiedError, RunError, SpecError
from harness.isolation.parent import isolated, release

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _no_child_of_other_tests() -> None:
    release()


def test_returns_what_the_function_returns() -> None:
    assert isolated(math.hypot, 3.0, 4.0) == 5.0


def test_runs_in_another_process() -> None:
    assert isolated(os.getpid) != os.getpid()


def test_an_error_of_the_function_is_raised_here_with_its_traceback() -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative") as caught:
        isolated(math.sqrt, -1.0)
    assert "Traceback" in caught.value.__notes__[0]


def test_an_error_that_does_not_come_back_from_a_pickle_keeps_its_message() -> None:
    with pytest.raises(RunError, match=r"SpecError: spec\.toml: inputs = 1: must be a table"):
        isolated(_raise_spec_error)


def _raise_spec_error() -> None:
    raise SpecError("spec.toml", "inputs", 1, "must be a table")


def test_a_crash_names_the_signal() -> None:
    with pytest.raises(DiedError, match="string_at: died of SIGSEGV") as caught:
        isolated(ctypes.string_at, 0)
    assert "Segmentation fault" in caught.value.stack
    assert 'File "' in caught.value.stack


def test_an_abort_names_the_signal() -> None:
    with pytest.raises(RunError, match="died of SIGABRT"):
        isolated(os.abort)


def test_a_silent_exit_is_not_a_result() -> None:
    with pytest.raises(RunError, match="ended with exit status 0"):
        isolated(os._exit, 0)


def test_a_hang_ends_with_the_place_where_it_hung() -> None:
    started = time.monotonic()
    with pytest.raises(
        DiedError, match=r"sleep: did not finish within 0\.3 s, in .*isolation/child\.py"
    ) as caught:
        isolated(time.sleep, 60, timeout_s=0.3)
    assert 'File "' in caught.value.stack
    assert time.monotonic() - started < 10


def test_a_flood_of_memory_ends_at_the_limit() -> None:
    with pytest.raises(RunError, match=r"bytearray: ran out of memory \(limit: 268435456 bytes\)"):
        isolated(bytearray, 1024 * MIB, memory_bytes=256 * MIB)


def test_what_fits_below_the_limit_runs() -> None:
    assert len(isolated(bytes, MIB, memory_bytes=256 * MIB)) == MIB


def test_a_child_serves_several_calls_where_that_is_allowed() -> None:
    first, second = isolated(os.getpid, reuse=True), isolated(os.getpid, reuse=True)
    assert first == second
    assert isolated(os.getpid) not in (first, os.getpid())


def test_a_child_of_other_surroundings_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    first = isolated(os.getpid, reuse=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert isolated(os.getenv, "CUDA_VISIBLE_DEVICES", reuse=True) == "1"
    assert isolated(os.getpid, reuse=True) != first


def test_what_a_call_left_does_not_fail_the_next() -> None:
    assert isolated(_dies_the_second_time, reuse=True) == 1
    assert isolated(_dies_the_second_time, reuse=True) == 1


def test_an_error_after_other_calls_is_checked_in_a_fresh_child() -> None:
    assert isolated(_raises_the_second_time, reuse=True) == 1
    assert isolated(_raises_the_second_time, reuse=True) == 1


_calls: list[int] = []


def _dies_the_second_time() -> int:
    _calls.append(1)
    return len(_calls) if len(_calls) == 1 else ctypes.string_at(0)[0]


def _raises_the_second_time() -> int:
    _calls.append(1)
    if len(_calls) > 1:
        raise ValueError("spoilt")
    return 1


@pytest.mark.parametrize("before", [False, True])
def test_a_reused_child_dies_in_the_same_words(before: bool) -> None:
    if before:
        isolated(os.getpid, reuse=True)
    with pytest.raises(DiedError, match="string_at: died of SIGSEGV") as caught:
        isolated(ctypes.string_at, 0, reuse=True)
    assert "Segmentation fault" in caught.value.stack
    assert isolated(math.hypot, 3.0, 4.0, reuse=True) == 5.0


def test_a_call_has_its_own_limit_of_memory() -> None:
    assert len(isolated(bytes, MIB, memory_bytes=256 * MIB, reuse=True)) == MIB
    assert len(isolated(bytes, 512 * MIB, reuse=True)) == 512 * MIB
    with pytest.raises(RunError, match="ran out of memory"):
        isolated(bytearray, 1024 * MIB, memory_bytes=256 * MIB, reuse=True)


def test_a_hang_of_a_reused_child_ends_and_is_not_tried_again() -> None:
    isolated(os.getpid, reuse=True)
    started = time.monotonic()
    with pytest.raises(DiedError, match=r"did not finish within 0\.3 s"):
        isolated(time.sleep, 60, timeout_s=0.3, reuse=True)
    assert time.monotonic() - started < 10


def test_a_released_child_is_gone() -> None:
    process = isolated(os.getpid, reuse=True)
    release()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def _in_another_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_limit_above_what_the_system_allows_is_the_systems() -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))\n"
    call = "from harness.isolation.parent import isolated; print(isolated(len, 'abc', memory_bytes=8 << 30))"
    assert _in_another_python(limit + call) == "3\n"


def test_a_process_with_many_open_files_has_children_too() -> None:
    many = (
        "import os, resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))\n"
        "kept = [os.dup(0) for _ in range(1100)]\n"
    )
    call = "from harness.isolation.parent import isolated; print(isolated(len, 'abc'))"
    assert _in_another_python(many + call) == "3\n"
