"""Run a function in a process of its own, so that its crash, hang or flood of memory is an error here.

The child is a fresh interpreter: it imports the function's module by name, runs it and hands the result
back.  This keeps accidents apart; it is no sandbox against hostile code.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import DiedError, RunError

Result = TypeVar("Result")
STACK_LINES = 12
SHARE_OF_MEMORY = 0.9
GRACE_S = 10.0
_FAULTS = ("Fatal Python error", "Timeout (")
CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from harness import isolation
isolation.child(sys.argv[2])
"""


def isolated(
    function: Callable[..., Result],
    *args: object,
    timeout_s: float = 600.0,
    memory_bytes: int | None = None,
) -> Result:
    """`function(*args)`, run in a child process; function, arguments and result must be picklable.

    `timeout_s` bounds the run without the child's start; `memory_bytes` its private writable memory.
    What the function raises is raised here.  Raises DiedError that says how the child died.
    """
    with tempfile.TemporaryDirectory(prefix="trt-harness-") as name:
        folder = Path(name)
        (folder / "call").write_bytes(pickle.dumps((function, args, timeout_s, memory_bytes)))
        status = _run(folder, timeout_s + GRACE_S)
        answer = folder / "answer"
        if status == 0 and answer.is_file():
            result: Result = _answer(answer)
            return result
        said = (folder / "stderr").read_text(errors="replace")
    death = _death(status, said, timeout_s, memory_bytes)
    raise DiedError(f"{_name(function)}: {death}", _stack(said))


def memory_limit() -> int:
    """Bytes that a child may take: most of what is free, so that it dies before the machine swaps."""
    import psutil

    return int(psutil.virtual_memory().available * SHARE_OF_MEMORY)


def _run(folder: Path, limit_s: float) -> int | None:
    """The exit status of the child; None if it had to be killed after `limit_s`."""
    command = [sys.executable, "-c", CHILD, json.dumps(sys.path), str(folder)]
    with (folder / "stderr").open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.kill()
            process.wait()


def _answer(path: Path) -> Any:
    failed, value, trace = pickle.loads(path.read_bytes())  # noqa: S301 - written by our own child
    if not failed:
        return value
    value.add_note(trace)
    raise value


def _death(status: int | None, said: str, timeout_s: float, memory_bytes: int | None) -> str:
    limit = f" (memory limit {memory_bytes} bytes)" if memory_bytes else ""
    if status is None or (status == 1 and "Timeout (" in said):
        return f"did not finish within {timeout_s:g} s{_frame(said)}"
    if status < 0:
        return f"died of {signal.Signals(-status).name}{limit}{_frame(said)}"
    return f"ended with exit status {status}{limit}{_frame(said)}"


def _stack(said: str) -> str:
    """The last words of a child and its innermost frames."""
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    faults = [k for k, line in enumerate(lines) if line.startswith(_FAULTS)]
    first = faults[0] if faults else max(0, len(lines) - STACK_LINES)
    return "\n".join(line[:300] for line in lines[first : first + STACK_LINES])


def _frame(said: str) -> str:
    """Where the innermost Python frame was, out of what faulthandler wrote."""
    frames = [line.strip() for line in said.splitlines() if line.strip().startswith('File "')]
    return f", in {frames[0][5:]}" if frames else ""


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", repr(function))


def child(name: str) -> None:
    """What the child process does: read the call in the folder `name`, leave the answer there."""
    import faulthandler

    folder = Path(name)
    faulthandler.enable(all_threads=False)
    _die_with_parent()
    function, args, timeout_s, memory_bytes = pickle.loads((folder / "call").read_bytes())  # noqa: S301
    _limit(memory_bytes)
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    answer = _pickled(function, args, memory_bytes)
    faulthandler.cancel_dump_traceback_later()
    (folder / "answer").write_bytes(answer)
    sys.stdout.flush()
    os._exit(0)  # Native libraries may crash while they unload; the answer is already there.


def _pickled(function: Callable[..., object], args: tuple[object, ...], memory_bytes: int | None) -> bytes:
    import traceback

    try:
        return pickle.dumps((False, function(*args), ""))
    except MemoryError as error:
        full: BaseException = DiedError(f"{_name(function)}: ran out of memory (limit: {memory_bytes} bytes)")
        return pickle.dumps((True, full, "".join(traceback.format_exception(error))))
    except BaseException as error:  # noqa: BLE001 - it goes on in the parent
        return _pickled_error(error, "".join(traceback.format_exception(error)))


def _pickled_error(error: BaseException, trace: str) -> bytes:
    try:
        data = pickle.dumps((True, error, trace))
        pickle.loads(data)  # noqa: S301 - some errors pickle and do not come back
    except (pickle.PicklingError, TypeError, AttributeError, ValueError):
        data = pickle.dumps((True, RunError(f"{type(error).__name__}: {error}"), trace))
    return data


def _limit(memory_bytes: int | None) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        # Not RLIMIT_AS: runtimes map far more than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _die_with_parent() -> None:
    import ctypes

    if sys.platform.startswith("linux"):
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
