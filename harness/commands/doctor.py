"""`trt-harness doctor [ENGINE...] [--try [--save FILE]]`: what works here, and the classic traps by name."""

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
    parser.add_argument("--try", action="store_true", dest="try_out",
                        help="build and run a tiny network for each feature of TensorRT that is used, each "
                             "in a process of its own; exit code 1 if one differs")  # fmt: skip
    parser.add_argument("--save", type=Path, metavar="FILE",
                        help="with --try: a zip of everything found, fit for an issue")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print one line for each finding.  Raises UsageError."""
    from harness.doctor.checks import examine, failed

    if args.save is not None and not args.try_out:
        raise UsageError("--save: needs --try")
    for path in args.engines:
        if why := nothing_at(path):
            raise UsageError(f"{path}: {why}")
    findings = examine(args.engines)
    print(*findings, sep="\n")
    differs = args.try_out and _try(args.save, findings)
    return TRAPPED if failed(findings) or differs else 0


def _try(save: Path | None, findings: list[Any]) -> bool:
    """Print what came of every trial; whether one differs."""
    from harness.doctor import contact

    outcomes = contact.meet(contact.installed())
    print("", contact.as_table(outcomes), sep="\n")
    if save is not None:
        contact.save(save, outcomes, findings)
        print(f"saved as {save}")
    return contact.failed(outcomes)
