"""`trt-harness init model.onnx`: writes a spec that runs as it is."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from harness.errors import UsageError, printable
from harness.paths import SPEC_NAME


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "write a spec for an ONNX file: shapes that run, generated data, comments on every key"
    parser = subparsers.add_parser("init", help=text, description=text)
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help=f"file (default: {SPEC_NAME} beside it)"
    )
    parser.add_argument(
        "--memory",
        type=float,
        default=2.0,
        metavar="GB",
        help="memory that trying shapes may take beside the weights (default: 2)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(args: argparse.Namespace) -> int:
    """Write the spec and say how to use it; 1 where it does not run as it is.  Raises UsageError."""
    from harness.drafting.draft import text_and_doubts
    from harness.report.plain import write_text

    target = args.output or args.model.parent / SPEC_NAME
    target = target / SPEC_NAME if os.path.isdir(target) else target
    if os.path.exists(target) and not args.force:
        raise UsageError(f"{target}: is there already; --force overwrites it")
    if not args.memory > 0:
        raise UsageError(f"--memory = {args.memory}: must be above 0, in GB")
    memory = int(args.memory * 2**30)
    text, doubts = text_and_doubts(args.model, target, memory_bytes=memory, tell=_tell)
    try:
        text.encode("utf-8")
        write_text(target, text)
    except (OSError, UnicodeEncodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{target}: cannot be written: {why}") from error
    if doubts:
        print(f"wrote {target}, which does not run as it is: {'; '.join(doubts)}")
        return 1
    print(f"wrote {target}\nvalidate it: {shlex.join(['trt-harness', 'validate', str(target)])}")
    return 0


def _tell(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
