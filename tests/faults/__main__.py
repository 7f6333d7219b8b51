"""Kill a scene at seeded points and go on: `python -m tests.faults SCENE SEED POINTS FOLDER`.

Odd points are the n-th change of the file system, even ones a moment in time, so in the middle of a write.
Every point is a fork of its own: killed, checked, played again to its end, checked again.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

# The first fork must not be the one that imports all this.
import harness.backends.onnxruntime.backend
import harness.report.pages.html  # noqa: F401
from tests.faults.scenes import SCENES, stand_in

CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}
_countdown = [0]


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event not in CHANGES or (event == "open" and not _writes(args)):
        return
    _countdown[0] -= 1
    if _countdown[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _writes(args: tuple[object, ...]) -> bool:
    return isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR))


def forked(scene: str, folder: Path, changes: int = 0, after_s: float = 0.0) -> int:
    """Play the scene in a fork; killed at a number of changes or after a time, where one is given."""
    child = os.fork()
    if not child:
        try:
            _countdown[0] = changes
            SCENES[scene].play(folder)
            (folder / "changes").write_text(str(-_countdown[0]))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - told, and the fork ends
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    if after_s:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def checked(scene: str, folder: Path) -> None:
    """`hold` in a fork, because it may run what must not be run before forking."""
    child = os.fork()
    if not child:
        try:
            SCENES[scene].hold(folder)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - told, and the fork ends
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"{scene}: {folder} is left half done")


def main(scene: str, seed: str, points: str, where: str) -> None:
    """Measure the scene once, then kill it at each point."""
    stand_in()
    sys.addaudithook(_watch)
    whole = _fresh(Path(where, "whole"))
    started = time.perf_counter()
    if forked(scene, whole):
        raise SystemExit(f"{scene}: does not play unharmed")
    seconds, changes = time.perf_counter() - started, int((whole / "changes").read_text())
    rng, killed = random.Random(f"{scene} {seed}"), 0
    for point in range(int(points)):
        folder = _fresh(Path(where, str(point)))
        number = rng.randint(1, changes) if point % 2 else 0
        status = forked(scene, folder, number, 0.0 if number else rng.uniform(0.05, 0.95) * seconds)
        killed += status == -signal.SIGKILL
        checked(scene, folder)
        if forked(scene, folder):
            raise SystemExit(f"{scene}: the run after point {point} fails, in {folder}")
        checked(scene, folder)
        _same_answer(whole, folder)
    print(f"{scene}: killed {killed} of {points}, {changes} changes, {seconds:.2f} s")


def _same_answer(whole: Path, folder: Path) -> None:
    name = "answer"
    if (whole / name).exists() and (whole / name).read_text() != (folder / name).read_text():
        raise SystemExit(f"{folder}: another answer than that of a run that was not killed")


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main(*sys.argv[1:])
