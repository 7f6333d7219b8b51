"""`trt-harness doctor [ENGINE...]`: what works on this machine, and the classic traps by name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.paths import nothing_at

TRAPPED = 1


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "say what works here: versions, GPU, what each backend can do, and the classic traps"
    parser = subparsers.add_parser("doctor", help=text, description=f"{text}; exit code 1 if there is a trap")
    parser.add_argument("engines", type=Path, nargs="*", metavar="ENGINE",
                        help="plan file, or folder of one: does it fit this machine?")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print one line for each finding.  Raises UsageError."""
    from harness.doctor.checks import examine, failed

    for path in args.engines:
        if why := nothing_at(path):
            raise UsageError(f"{path}: {why}")
    findings = examine(args.engines)
    print(*findings, sep="\n")
    return TRAPPED if failed(findings) else 0
