"""First contact with a runtime: each trial in a child process with a time limit, a table, a bundle."""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from harness.doctor.inspection import table
from harness.errors import BackendUnavailableError, DiedError, HarnessError, NotHonouredError

State = Literal["works", "builds", "absent", "differs"]
WORDS: dict[State, str] = {
    "works": "works",
    "builds": "builds, cannot run here",
    "absent": "not there in this version",
    "differs": "DIFFERS from what we believe",
}
TRIAL_S = 300.0
SHOWN = 160
Runner = Callable[[str, str], "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What came of one trial; `got` and `expected` are of the call that differs, `got` also says why not."""

    backend: str
    trial: str
    state: State
    call: str = ""
    got: str = ""
    expected: str = ""
    duration_s: float = 0.0

    def row(self) -> tuple[str, ...]:
        """Its line of the table."""
        differs = f"{self.call}: got {self.got}, expected {self.expected}"
        why = differs if self.state == "differs" else self.got
        return self.trial, WORDS[self.state], f"{self.duration_s:.1f} s", _short(why)


def meet(backends: Iterable[str], run: Runner | None = None) -> list[Outcome]:
    """All trials of all `backends`, in order."""
    from harness.doctor.trials import TRIALS

    runner = run or in_child
    return [runner(backend, name) for backend in backends for name in TRIALS]


def installed() -> list[str]:
    """The TensorRT bindings that load here.  Raises BackendUnavailableError where none does."""
    from harness.backends.tensorrt.bindings import MODULES, load_bindings

    found, why = [], []
    for name in MODULES:
        try:
            found.append(load_bindings(name).name)
        except BackendUnavailableError as error:
            why.append(str(error))
    if not found:
        raise BackendUnavailableError("; ".join(why))
    return found


def in_child(backend: str, name: str) -> Outcome:
    """One trial in a process of its own: a crash or a hang is what came of it."""
    from harness.isolation.parent import isolated

    started = time.perf_counter()
    try:
        return isolated(tried, backend, name, timeout_s=TRIAL_S)
    except DiedError as error:
        spent = time.perf_counter() - started
        return Outcome(backend, name, "differs", "child process", str(error), "an end of its own", spent)


def tried(backend: str, name: str) -> Outcome:
    """One trial in this process."""
    from harness.backends.tensorrt.backend import TensorRTBackend

    return judged(TensorRTBackend(backend, isolate=False), name)


def judged(backend: object, name: str) -> Outcome:
    """One trial of a backend in this process."""
    from harness.doctor.bench import AbsentError, Bench, DiffersError, OnlyBuiltError
    from harness.doctor.trials import TRIALS

    started = time.perf_counter()

    def came(state: State, call: str = "", got: str = "", expected: str = "") -> Outcome:
        label = str(getattr(backend, "name", ""))
        return Outcome(label, name, state, call, got, expected, time.perf_counter() - started)

    with tempfile.TemporaryDirectory(prefix="trt-harness-") as folder:
        try:
            TRIALS[name](Bench(backend, Path(folder)))  # type: ignore[arg-type]
        except DiffersError as error:
            return came("differs", error.call, error.got, error.expected)
        except OnlyBuiltError as error:
            return came("builds", got=str(error))
        except (AbsentError, NotHonouredError) as error:
            return came("absent", got=str(error))
        except HarnessError as error:
            return came("differs", "trial", str(error), "no error")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what came of the trial
            return came("differs", "trial", f"{type(error).__name__}: {error}", "no error")
    return came("works")


def as_table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes, a table for each backend, and a count."""
    lines = []
    for backend in dict.fromkeys(outcome.backend for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.backend == backend]
        counts = {state: sum(outcome.state == state for outcome in mine) for state in WORDS}
        told = ", ".join(f"{number} {WORDS[state]}" for state, number in counts.items() if number)
        lines += [f"{backend}: {told}", *(f"  {line}" for line in table([outcome.row() for outcome in mine]))]
    return "\n".join(lines)


def save(path: Path, outcomes: Sequence[Outcome], diagnosis: Iterable[object]) -> None:
    """A zip for an issue: the table, the outcomes in full, and what `trt-harness doctor` says.

    The user's home folder is written as `~`.
    """
    texts = {
        "table.txt": as_table(outcomes),
        "outcomes.json": json.dumps([asdict(outcome) for outcome in outcomes], indent=1),
        "doctor.txt": "\n".join(map(str, diagnosis)),
    }
    home = str(Path.home())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in texts.items():
            bundle.writestr(name, text.replace(home, "~") + "\n")


def failed(outcomes: Iterable[Outcome]) -> bool:
    """Whether anything differs from what the harness believes."""
    return any(outcome.state == "differs" for outcome in outcomes)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."
