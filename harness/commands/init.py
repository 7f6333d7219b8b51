"""`trt-harness init model.onnx`: writes a spec that runs as it is."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.paths import SPEC_NAME


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "write a spec for an ONNX file: shapes that run, generated data, comments on every key"
    parser = subparsers.add_parser("init", help=text, description=text)
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help=f"file (default: {SPEC_NAME} beside it)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(args: argparse.Namespace) -> int:
    """Write the spec; says which file and how to use it.  Raises UsageError."""
    from harness.drafting.draft import draft_spec
    from harness.report.plain import write_text

    target = args.output or args.model.parent / SPEC_NAME
    target = target / SPEC_NAME if os.path.isdir(target) else target
    if os.path.exists(target) and not args.force:
        raise UsageError(f"{target}: is there already; --force overwrites it")
    text = draft_spec(args.model, target)
    try:
        text.encode("utf-8")
        write_text(target, text)
    except (OSError, UnicodeEncodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{target}: cannot be written: {why}") from error
    print(f"wrote {target}\nvalidate it: {shlex.join(['trt-harness', 'validate', str(target)])}")
    return 0
