"""`trt-harness lower MODEL --precision fp16 -o out.onnx`: an ONNX file with the precision in its graph."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.flags import PRECISIONS


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "write the ONNX file that strongly typed builders take, for a build of your own"
    parser = subparsers.add_parser("lower", help=text, description=text)
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file, spec.toml or its folder")
    parser.add_argument("--precision", required=True, metavar="NAME", help=f"one of {', '.join(PRECISIONS)}")
    kept = "name or glob of nodes that stay FP32, repeatable (default: the spec's)"
    parser.add_argument("--fp32-node", action="append", metavar="GLOB", help=kept)
    data = "npz or npy file that INT8 is calibrated on (default: the spec's data)"
    parser.add_argument("--data", type=Path, metavar="FILE", help=data)
    target = "ONNX file (default: NAME-PRECISION.onnx here)"
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=target)
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--cache-dir", type=Path, metavar="PATH", help="(default: the user's cache folder)")


def run(args: argparse.Namespace) -> int:
    """Write the file; says what was done to how many nodes.  Raises UsageError."""
    from harness.api.lowering import lower
    from harness.drafting.draft import name_for

    name = name_for(args.model if args.model.is_file() else args.model.absolute())
    target = args.output or Path(f"{name}-{args.precision}.onnx")
    if target.exists() and not args.force:
        raise UsageError(f"{target}: is there already; --force overwrites it")
    if not target.parent.is_dir():
        raise UsageError(f"{target}: no such folder")
    made = lower(
        args.model, args.precision, fp32_nodes=args.fp32_node, data=args.data, cache_dir=args.cache_dir
    )
    made.save(target)
    summary = made.summary
    print(
        f"wrote {target}: {len(summary.lowered)} nodes in 16 bits, {len(summary.quantized)} quantized, "
        f"{len(summary.kept)} in FP32"
    )
    return 0
