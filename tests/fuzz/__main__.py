"""Fuzz the readers of files: `python -m tests.fuzz --target onnx --cases 2000 --seed 7`.

Runs in this very process, which a hostile model may crash: the case at work is then in `--folder`.
Exit status 0: every case was read or refused in one line, without leaving its folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import guard
from tests.fuzz.edits import OPERATIONS, edits
from tests.fuzz.targets import TARGETS, Edits, fresh, prepare

MEMORY_BYTES = 4 * 2**30


def fuzz(target: str, cases: int, number: int, folder: Path) -> int:
    """Read `cases` hostile files in `folder`; returns how many.  Raises what a case brought about."""
    source, work = folder / "source", folder / "case"
    source.mkdir(parents=True, exist_ok=True)
    prepare(source)
    tried = 0

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(structure=edits(), raw=edits(OPERATIONS, most=2), spoil=edits(most=1))
    def one(structure: Edits, raw: Edits, spoil: Edits) -> None:
        nonlocal tried
        tried += 1
        chosen = TARGETS[target]
        # Most spoilt bytes end in the first parser: only one case in four has any.
        chosen.make(fresh(source, work), structure, raw if spoil[0][1] % 4 == 0 else ())
        with guard.confined(work):
            chosen.read(work)

    one()
    return tried


def main() -> None:
    """Read the arguments and fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, action="append", help="(default: all of them)")
    parser.add_argument("--cases", type=int, default=2000, help="in all, shared by the targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="where the case at work is kept")
    args = parser.parse_args()
    chosen = args.target or list(TARGETS)
    guard.limit_memory(MEMORY_BYTES)
    guard.install()
    for target in chosen:
        started = time.perf_counter()
        tried = fuzz(target, -(-args.cases // len(chosen)), args.seed, args.folder / target)
        print(f"{target}: {tried} cases in {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
