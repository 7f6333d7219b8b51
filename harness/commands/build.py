"""`trt-harness build MODEL -o DIR`: hands out the engine that was judged, and what was found of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.flags import BACKENDS, PRECISIONS


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = (
        "validate a model, and hand out the engine that was judged (the lowered ONNX file where no builder "
        "is) with its manifest"
    )
    parser = subparsers.add_parser(
        "build", help=text, description=f"{text}; refused unless the verdict is pass"
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file, spec.toml or its folder")
    parser.add_argument("--precision", required=True, metavar="NAME", help=f"one of {', '.join(PRECISIONS)}")
    folder = "a new or empty folder"
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=folder)
    parser.add_argument("--anyway", action="store_true", help="hand it out whatever the verdict is")
    parser.add_argument(
        "--backend", default="auto", metavar="NAME", help=f"one of {', '.join(BACKENDS)} (default: auto)"
    )
    data = "npz or npy file (default: the spec's data)"
    parser.add_argument("--data", type=Path, metavar="FILE", help=data)
    parser.add_argument("--cache-dir", type=Path, metavar="PATH", help="(default: the user's cache folder)")


def run(args: argparse.Namespace) -> int:
    """Validate, build, copy; prints verdict and folder.  Raises UsageError, BackendError."""
    from harness.api.handing import Asked, hand_out

    asked = Asked(args.model, args.precision, args.backend, args.data, args.cache_dir)
    given = hand_out(asked, args.output, anyway=args.anyway)
    print(given.report)
    if given.folder is None:
        why = f"the verdict is {given.verdict}, not pass; --anyway hands it out all the same"
        print(f"nothing handed out: {why}")
        print(given.report.explain())
        return 1
    print(f"wrote {given.folder}: {', '.join(given.files)}\ncheck it again: {given.check}")
    return 0
