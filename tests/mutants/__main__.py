"""Mutates the modules that decide verdicts; fails on a mutant that passes all tests and that nobody reviewed.

    python -m tests.mutants [MODULE...] [--jobs N] [--list]

`reviewed.txt` lists those that change nothing that can be seen, a line `MODULE: CHANGE  # why` each; an entry
that no longer survives, or that no mutant has, fails as well.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.mutants import trial
from tests.mutants.mutate import Mutant, mutants

COMPARING = tuple(f"tests/comparison/test_{name}.py" for name in ("bounds", "mutations", "compare"))
VERDICT = ("triage", "deciding", "validate")
MODULES = {
    "harness/precision.py": ("tests/test_precision.py", "tests/comparison/test_bounds.py"),
    "harness/comparison/result.py": (*COMPARING, "tests/verdict/test_triage.py"),
    "harness/comparison/compare.py": COMPARING,
    "harness/verdict/triage.py": tuple(f"tests/verdict/test_{name}.py" for name in VERDICT),
    "harness/report/gate.py": ("tests/report/test_gate_rules.py", "tests/report/test_gate.py"),
}
"""Module -> the tests that decide over its mutants, the quickest first."""
REVIEWED = Path(__file__).with_name("reviewed.txt")


def reviewed() -> dict[str, str]:
    """Keys of the mutants that were looked at, and why they may survive."""
    lines = [line for line in REVIEWED.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {key: why for key, _, why in (line.rpartition("  # ") for line in lines)}


def survivors(module: str, jobs: int) -> tuple[list[str], int]:
    """The keys of a module's mutants that its tests pass, and how many mutants there are."""
    waiting, running, started, lived = list(mutants(Path(module).read_text(encoding="utf-8"))), {}, {}, []
    total = len(waiting)
    waiting.insert(0, Mutant("", Path(module).read_text(encoding="utf-8")))
    while waiting or running:
        while waiting and len(running) < jobs and not (running and "" in running.values()):
            one = waiting.pop(0)
            pid = trial.start(Path(module), one.source, MODULES[module])
            running[pid], started[pid] = one.key, time.monotonic()
        pid, status = trial.finished(started)
        key = running.pop(pid)
        started.pop(pid)
        if key == "" and status != trial.SURVIVED:
            sys.exit(f"{module}: its tests fail on the module as it is (pytest's status {status})")
        if key and status == trial.SURVIVED:
            lived.append(f"{module}: {key}")
            print(f"survives {lived[-1]}", flush=True)
    return lived, total


def main() -> int:
    parser = argparse.ArgumentParser("tests.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="default: all that decide")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time")
    parser.add_argument("--list", action="store_true", help="print the mutants, run nothing")
    options = parser.parse_args()
    modules = options.modules or list(MODULES)
    if options.list:
        print(*(f"{m}: {one.key}" for m in modules for one in mutants(Path(m).read_text())), sep="\n")
        return 0
    trial.load_libraries()
    return _report(modules, options.jobs)


def _report(modules: list[str], jobs: int) -> int:
    known, found = reviewed(), set()
    for module in modules:
        began = time.monotonic()
        lived, total = survivors(module, jobs)
        found |= set(lived)
        print(
            f"{module}: {total} mutants, {len(lived)} survive, {time.monotonic() - began:.0f} s", flush=True
        )
    new = sorted(found - set(known))
    stale = sorted(key for key in known if key.partition(":")[0] in modules and key not in found)
    print(*(f"SURVIVES {key}" for key in new), *(f"NO LONGER SURVIVES {key}" for key in stale), sep="\n")
    return int(bool(new or stale))


if __name__ == "__main__":
    sys.exit(main())
