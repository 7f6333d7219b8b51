"""A crash, a hang or a flood of memory in a child is an error here that says what happened."""

from __future__ import annotations

import ctypes
import math
import os
import time

import pytest

from harness.errors import DiedError, RunError, SpecError
from harness.isolation import isolated

MIB = 1 << 20


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
    with pytest.raises(DiedError, match=r"sleep: did not finish within 0\.3 s, in .*isolation\.py") as caught:
        isolated(time.sleep, 60, timeout_s=0.3)
    assert 'File "' in caught.value.stack
    assert time.monotonic() - started < 10


def test_a_flood_of_memory_ends_at_the_limit() -> None:
    with pytest.raises(RunError, match=r"bytearray: ran out of memory \(limit: 268435456 bytes\)"):
        isolated(bytearray, 1024 * MIB, memory_bytes=256 * MIB)


def test_what_fits_below_the_limit_runs() -> None:
    assert len(isolated(bytes, MIB, memory_bytes=256 * MIB)) == MIB
