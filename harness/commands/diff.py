"""`trt-harness diff BASE NEW`: accuracy and latency of runs against a baseline."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.flags import GATES

REGRESSED = 1


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = subparsers.add_parser(
        "diff",
        help="compare runs with a baseline; exit code 1 on a regression, or where a case is missing",
        description="BASE and NEW are each a results.json, a run's folder or a folder of runs. Several runs "
        "on a side show the run-to-run variation that a latency must exceed. What of NEW lies in BASE is "
        "left out there.",
    )
    parser.add_argument("base", type=Path, metavar="BASE", help="the baseline's run or runs")
    parser.add_argument("new", type=Path, metavar="NEW", help="the run or runs to judge")
    parser.add_argument("--min-effect", type=_fraction, default=0.03, metavar="FRACTION",
                        help="smallest change of latency that counts (default: 0.03)")  # fmt: skip
    parser.add_argument("--gate", choices=GATES, default="normal", help="strict: a BASE of a single run may "
                        "fail a latency, too (default: %(default)s, which warns)")  # fmt: skip
    parser.add_argument("--allow-missing", action="append", default=[], metavar="GLOB",
                        help="model, or case as it is printed, repeatable: what of BASE may be gone, renamed "
                        "or skipped in NEW")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="list what stayed the same, too")
    parser.add_argument("--github", action="store_true", help="add GitHub annotations for regressions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every difference to FILE as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the differences, regressions first."""
    from harness.report import annotations, baseline, changes
    from harness.report.gate import Gate
    from harness.report.history import before, records_of, runs_in
    from harness.report.merge import apart
    from harness.report.plain import dumps, write_text
    from harness.report.regression import missing

    base, new = (apart(runs_in(path)) for path in (args.base, args.new))
    old, own = records_of(before(base, new)), records_of(new)
    compared = baseline.diff(old, own, Gate(min_effect=args.min_effect, strict=args.gate == "strict"))
    found = missing.explained(compared, old, own, args.allow_missing)
    troubles = missing.troubles(old, found, new)
    print("\n".join([*changes.lines(found, changes.ORDER if args.all else changes.CHANGED), *troubles]))
    if args.github:
        print("\n".join([*annotations.of_differences(found), *annotations.of_troubles(troubles)]))
    if args.json:
        write_text(args.json, dumps([difference.to_json() for difference in found], indent=1) + "\n")
    return REGRESSED if changes.regressions(found) or missing.losses(found) or troubles else 0


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be >= 0 and < 1")
    return value
