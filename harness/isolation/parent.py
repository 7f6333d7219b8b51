"""Run a function in a process of its own, so that its crash, hang or flood of memory is an error here.

The child is a fresh interpreter: it imports the function's module by name, runs it and hands the result
back.  This keeps accidents apart; it is no sandbox against hostile code.
"""

from __future__ import annotations

import atexit
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import DiedError
from harness.isolation.child import ANSWER, CALL, SAID, Child, name_of, surroundings
from harness.isolation.watch import FULL
from harness.paths import scratch

Result = TypeVar("Result")
STACK_LINES = 12
SHARE_OF_MEMORY = 0.9
GRACE_S = 10.0
WINDOWS = {0xC0000005: "access violation", 0xC00000FD: "stack overflow", 0xC0000409: "abort"}
"""Exit statuses by which Windows tells how a process died."""
_FAULTS = ("Fatal Python error", "Timeout (")
_idle: list[Child] = []


def isolated(
    function: Callable[..., Result],
    *args: object,
    timeout_s: float = 600.0,
    memory_bytes: int | None = None,
    reuse: bool = False,
) -> Result:
    """`function(*args)`, run in a child process; function, arguments and result must be picklable.

    `timeout_s` bounds the run without the child's start; `memory_bytes` its private writable memory.
    `reuse`: a child that served such calls serves this one too, and need not start, load libraries and open
    the GPU again.  What fails there is not believed, because of what calls before may have left: a fresh
    child decides.
    What the function raises is raised here.  Raises DiedError that says how the child died.
    """
    with scratch() as folder:
        (folder / CALL).write_bytes(pickle.dumps((function, args, timeout_s, memory_bytes)))
        status = _run(folder, timeout_s + GRACE_S, reuse)
        answer = folder / ANSWER
        if answer.is_file():
            result: Result = _answer(answer)
            return result
        said = (folder / SAID).read_text(errors="replace")
    death = _death(status, said, timeout_s, memory_bytes)
    raise DiedError(f"{name_of(function)}: {death}", _stack(said))


@atexit.register
def release() -> None:
    """End the child that waits for calls, and what it holds of memory and GPU."""
    while _idle:
        _idle.pop().end()


def memory_limit() -> int:
    """Bytes that a child may take: most of what is free, so that it dies before the machine swaps."""
    import psutil

    return int(psutil.virtual_memory().available * SHARE_OF_MEMORY)


def _run(folder: Path, limit_s: float, reuse: bool) -> int | None:
    """See `Child.run`."""
    child = (_waiting() if reuse else None) or Child(folder / SAID)
    used, status = child.used, child.run(folder, limit_s)
    if reuse and child.sound:
        _idle.append(child)
        return status
    child.end()
    if used and not child.sound and status is not None:
        for name in (ANSWER, SAID):
            (folder / name).unlink(missing_ok=True)
        return _run(folder, limit_s, reuse)
    return status


def _waiting() -> Child | None:
    """The idle child, if it would be the same when started now."""
    while _idle:
        child = _idle.pop()
        if child.around == surroundings():
            return child
        child.end()
    return None


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
    if status == FULL:
        return f"ran out of memory{limit}; it was watched, for want of a limit of the system{_frame(said)}"
    if status < 0:
        return f"died of {_signal(-status)}{limit}{_frame(said)}"
    named = f" ({WINDOWS[status]})" if status in WINDOWS else ""
    return f"ended with exit status {status}{named}{limit}{_frame(said)}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
