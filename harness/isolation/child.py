"""The child process of `isolation`: the parent's handle, and what the child does, one call after another.

Calls and answers are pickles in a folder; the folder's name goes down the child's stdin, a byte comes back
when the answer is there: `FINE`, or another where the function raised.  What the child prints meanwhile,
native libraries too, goes to a file beside them.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import processors
from harness.errors import DiedError, RunError
from harness.isolation import start
from harness.isolation.pipes import readable
from harness.isolation.watch import Watch, die_with_parent, limit_memory

FINE, RAISED = b".", b"!"
IDLE_S = 30.0
"""An idle child ends after this time: it may hold a CUDA context."""

CALL, ANSWER, SAID = "call", "answer", "stderr"
CHILD = """
import importlib.machinery, importlib.util, json, sys
told = json.loads(sys.argv[1])
spec = importlib.machinery.PathFinder.find_spec("harness", [told["root"]])
sys.modules["harness"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["harness"])
from harness.isolation import child
child.settle(**told)
child.serve()
"""


class Child:
    """A fresh interpreter that waits for calls; what it says while it starts goes to `said`.

    `used`: whether it had a call; `sound`: whether it lives, and its last call did not raise.
    """

    def __init__(self, said: Path) -> None:
        self.around, self.used, self.sound = surroundings(), False, False
        command = start.python("-c", CHILD, json.dumps(_told()))
        with said.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=start.NEUTRAL,
                env=start.environment(),
            )

    def run(self, folder: Path, limit_s: float) -> int | None:
        """Run the call in `folder`, which then holds the answer unless the child died.

        The child's exit status; None if it had to be killed after `limit_s`; 0 while it lives.
        """
        calls, done = self._pipes()
        self.used, self.sound = True, False
        try:
            calls.write(f"{folder}\n".encode())
            calls.flush()
        except BrokenPipeError:
            return self._process.wait()
        try:
            answered = readable(done, limit_s)
        except BaseException:  # Ctrl-C: nobody waits for the answer any more
            self.end()
            raise
        if not answered:
            self.end()
            return None
        said = os.read(done.fileno(), 1)
        self.sound = said == FINE
        return 0 if said else self._process.wait()

    def end(self) -> None:
        """Kill it: native libraries may crash while they unload."""
        self._process.kill()
        self._process.wait()
        for pipe in self._pipes():
            try:
                pipe.close()
            except BrokenPipeError:  # what was left in the buffer of a call that never arrived
                continue

    def _pipes(self) -> tuple[Any, Any]:
        return self._process.stdin, self._process.stdout


def surroundings() -> tuple[Any, ...]:
    """What a child takes over from its parent when it starts."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return os.getpid(), variables, list(sys.path), os.getcwd(), processors.allowed()


def _told() -> dict[str, Any]:
    """The arguments of `settle`, and where this package lies: the child runs the same one."""
    root = Path(__file__).resolve().parents[2]
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return {"root": str(root), "path": path, "folder": os.getcwd()}


def settle(root: str, path: list[str], folder: str) -> None:
    """Import what the parent imports, and stand where it stands: relative paths mean the same files."""
    sys.path[:] = start.module_path(sys.path, [*path, root], folder)
    os.chdir(folder)


def serve() -> None:
    """What the child does until its parent closes the pipe or leaves it idle."""
    import faulthandler

    calls, done = os.fdopen(os.dup(0), "rb", buffering=0), os.dup(1)
    faulthandler.enable(all_threads=False)
    watch = Watch(None if die_with_parent() else os.getppid())
    if watch.parent is not None:
        watch.start()
    while readable(calls, IDLE_S) and (line := calls.readline()):
        os.write(done, _serve_one(Path(os.fsdecode(line[:-1])), watch))
    os._exit(0)


def _serve_one(folder: Path, watch: Watch) -> bytes:
    import faulthandler

    _redirect(folder / SAID)
    function, args, timeout_s, memory_bytes = pickle.loads((folder / CALL).read_bytes())  # noqa: S301
    watch.memory_bytes = None if limit_memory(memory_bytes) else memory_bytes
    if watch.memory_bytes is not None and not watch.is_alive():
        watch.start()
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    raised, answer = _pickled(function, args, memory_bytes)
    faulthandler.cancel_dump_traceback_later()
    (folder / "part").write_bytes(answer)
    (folder / "part").replace(folder / ANSWER)
    sys.stdout.flush()
    return RAISED if raised else FINE


def _redirect(said: Path) -> None:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(file, standard)
    os.close(file)


def _pickled(
    function: Callable[..., object], args: tuple[object, ...], memory_bytes: int | None
) -> tuple[bool, bytes]:
    """Whether the function raised, and the answer."""
    import traceback

    try:
        return False, pickle.dumps((False, function(*args), ""))
    except MemoryError as error:
        full = DiedError(f"{name_of(function)}: ran out of memory (limit: {memory_bytes} bytes)")
        return True, pickle.dumps((True, full, "".join(traceback.format_exception(error))))
    except BaseException as error:  # noqa: BLE001 - it goes on in the parent
        return True, _pickled_error(error, "".join(traceback.format_exception(error)))


def _pickled_error(error: BaseException, trace: str) -> bytes:
    try:
        data = pickle.dumps((True, error, trace))
        pickle.loads(data)  # noqa: S301 - some errors pickle and do not come back
    except (pickle.PicklingError, TypeError, AttributeError, ValueError):
        data = pickle.dumps((True, RunError(f"{type(error).__name__}: {error}"), trace))
    return data


def name_of(function: Callable[..., object]) -> str:
    """The function as messages name it."""
    return getattr(function, "__qualname__", repr(function))
