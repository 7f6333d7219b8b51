"""`trt-harness baseline pin RUN`: the run that latencies must not fall behind, whatever the nights since."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "pin a run as the anchor of a baseline"
    parser = subparsers.add_parser("baseline", help=text)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    pin = actions.add_parser(
        "pin",
        help=text,
        description="Copy RUN into FOLDER as its anchor, in the place of the one before. Runs against a "
        "baseline that has an anchor, the last release say, fail where a latency is slower than there, "
        "however little each night added.",
    )
    pin.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    pin.add_argument("--folder", type=Path, required=True, metavar="FOLDER", help="the baseline's runs")


def run(args: argparse.Namespace) -> int:
    """Pin the run.  Raises UsageError for what is no run."""
    from harness.errors import UsageError
    from harness.report.history import ANCHOR
    from harness.report.results import read

    if not args.run.is_dir():
        raise UsageError(f"{args.run}: is no run's folder")
    found = read(args.run)
    target = args.folder / ANCHOR
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix=".anchor-") as folder:
        fresh, old = Path(folder, "new"), Path(folder, "old")
        shutil.copytree(args.run, fresh, symlinks=True)
        if target.exists():
            os.replace(target, old)
        os.replace(fresh, target)
    print(f"{target}: {found.run} is the anchor")
    return 0
