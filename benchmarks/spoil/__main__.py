"""Engines spoilt on purpose, judged as the suites judge: which pass and do harm, and which right ones fail.

    python -m benchmarks.spoil [--model GLOB] [--precision NAME] [--count N] [--seed N] [--list FILE]

All bundled models (those that `make zoo` fetched too) and six generated ones, in some 400 named ways at every
precision.  Exit code 1 where more survive than the targets allow, or where a right variant raises an alarm.
"""

from __future__ import annotations

import fnmatch
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.command import arguments, count, one_of
from benchmarks.spoil import models, report
from benchmarks.spoil.bench import benches, subject_of
from benchmarks.spoil.catalogue import catalogue
from benchmarks.spoil.edits import EDITS, SCALES
from benchmarks.spoil.survey import Result, Survey
from harness.errors import HarnessError
from harness.options import Options
from harness.precision import Precision
from harness.storage.cache import Cache

BUNDLED = Path(__file__).resolve().parents[2] / "suites" / "models"


def main() -> int:
    options = arguments(
        "spoil",
        __doc__,
        **{
            "--model": {"default": "*", "metavar": "GLOB", "help": "models to spoil, by name"},
            "--precision": {"action": "append", "type": one_of(map(str, Precision)), "metavar": "NAME"},
            "--count": {"type": count, "metavar": "N", "help": "ways tried on each engine (default: all)"},
            "--seed": {"type": int, "default": 0, "metavar": "N", "help": "where the faults strike"},
            "--list": {"type": Path, "metavar": "FILE", "help": "all results as JSON"},
        },
    )
    started, results = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        wanted = tuple(map(Precision, options.precision or Precision))
        for path in _specs(Path(folder), options.model):
            results += _model(path, wanted, options.count, options.seed)
    if options.list:
        report.write(results, options.list)
    print(report.table(results, time.monotonic() - started))
    missed = report.above_target(results)
    print(*(f"TARGET MISSED {line}" for line in missed), sep="\n")
    return int(bool(missed))


def _specs(folder: Path, pattern: str) -> Iterator[Path]:
    found = [*models.write(folder), *sorted(BUNDLED.glob("*/spec.toml"))]
    return (path for path in found if fnmatch.fnmatch(path.parent.name, pattern))


def _model(path: Path, wanted: tuple[Precision, ...], most: int | None, seed: int) -> list[Result]:
    results: list[Result] = []
    try:
        subject = subject_of(path, Cache(Options().cache_dir))
        with benches(subject, wanted) as found:
            for bench in found:
                started = time.monotonic()
                mine = list(_surveyed(Survey(bench), most, seed))
                results += mine
                harmful = sum(one.outcome == "harmful" for one in mine)
                print(f"{bench.label}: {len(mine)} engines, {harmful} pass and do harm,"
                      f" {time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    except HarnessError as error:
        print(f"{path.parent.name}: left out: {error}", flush=True)
    return results


def _surveyed(survey: Survey, most: int | None, seed: int) -> Iterator[Result]:
    if survey.broken:
        print(f"{survey.bench.label}: left out, the right engine fails: {survey.broken}", flush=True)
        return
    ways, names = list(catalogue()), [*EDITS, *SCALES]
    if most is not None:
        drawn = random.Random(f"{survey.bench.label} {seed}")
        drawn.shuffle(ways)
        share = most * len(ways) // (len(ways) + len(names))
        ways, names = ways[:share], drawn.sample(names, min(len(names), most - share))
    yield from (survey.spoilt(spoil, seed) for spoil in ways)
    yield from survey.edits(names, seed)
    yield from survey.variants(seed)


if __name__ == "__main__":
    sys.exit(main())
