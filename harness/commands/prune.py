"""`trt-harness prune`: removes from the cache what was not used for long."""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

DAYS = 30.0


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "remove engines, scales and references from the cache that were not used for long"
    parser = subparsers.add_parser("prune", help=text, description=f"{text}; fetched files stay")
    parser.add_argument(
        "--unused-days",
        type=_days,
        default=DAYS,
        metavar="N",
        help="for how many days (default: %(default)g); 0: whatever is not being made now",
    )
    parser.add_argument("--cache-dir", type=Path, metavar="PATH", help="(default: the user's cache folder)")
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, say what would be")


def run(args: argparse.Namespace) -> int:
    """Print how many entries of each kind go and stay, with their megabytes.  Raises UsageError."""
    from harness.options import cache_folder
    from harness.storage.prune import DAY_S, items, remove

    folder = cache_folder("--cache-dir", args.cache_dir)
    found: defaultdict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for item in items(folder):
        old = item.unused_s >= args.unused_days * DAY_S
        goes = old and (args.dry_run or remove(item))
        found[item.kind][0 if goes else 1].append(item.bytes)
    word = "would be removed" if args.dry_run else "removed"
    for kind, (gone, stay) in found.items():
        print(f"{kind}: {_told(gone)} {word}, {_told(stay)} kept")
    print(f"{folder}: {_told([size for gone, _ in found.values() for size in gone])} {word}")
    return 0


def _told(sizes: list[int]) -> str:
    return f"{len(sizes)} ({sum(sizes) / 1e6:,.1f} MB)"


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 <= days < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: must be days >= 0")
    return days
