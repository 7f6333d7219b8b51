"""`trt-harness report`: pages from runs that are finished."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CONFLICT = 1


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its actions."""
    parser = subparsers.add_parser(
        "report",
        help="html, merge, trend and annotations from finished runs",
        description="Pages from runs that are finished.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    html = _action(actions, "html", "write report.html of one run or of several, merged")
    html.add_argument("-o", "--output", type=Path, metavar="FILE", help="(default: beside the first run)")
    html.add_argument("--baseline", type=Path, metavar="PATH", help="run or runs to compare with")
    merge = _action(actions, "merge", "join the results of shards and machines; exit code 1 on conflicts")
    merge.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where to write")
    trend = _action(actions, "trend", "write trend.html: each case over many runs")
    trend.add_argument("-o", "--output", type=Path, default=Path("trend.html"), metavar="FILE",
                       help="(default: trend.html)")  # fmt: skip
    _action(actions, "annotations", "print GitHub annotations of failures and warnings")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text.capitalize() + ".")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN",
                        help="results.json, a run's folder, or a folder of runs")  # fmt: skip
    return parser


def run(args: argparse.Namespace) -> int:
    """Do what the action asks."""
    return {"html": _html, "merge": _merge, "trend": _trend, "annotations": _annotations}[args.action](args)


def _html(args: argparse.Namespace) -> int:
    from harness.report.baseline import diff
    from harness.report.history import before, records_of, runs_in, runs_of
    from harness.report.merge import apart, merge, split
    from harness.report.pages import html
    from harness.report.plain import write_text

    joined = merge(runs_of(args.runs)).results
    base = before(apart(runs_in(args.baseline)), split(joined)) if args.baseline else []
    found = diff(records_of(base), joined.records) if base else []
    first = args.runs[0] if args.runs[0].is_dir() else args.runs[0].parent
    print(write_text(args.output or first / html.REPORT, html.page(joined, found)))
    return 0


def _merge(args: argparse.Namespace) -> int:
    from harness.report.history import runs_in
    from harness.report.merge import merge
    from harness.report.write import write_run

    merged = merge([run for path in args.runs for run in runs_in(path)])
    for path in write_run(merged.results, args.output):
        print(path)
    for conflict in merged.conflicts:
        print(f"conflict: {conflict}", file=sys.stderr)
    return CONFLICT if merged.conflicts else 0


def _trend(args: argparse.Namespace) -> int:
    from harness.report.history import runs_of
    from harness.report.pages.trend import page
    from harness.report.plain import write_text

    print(write_text(args.output, page(runs_of(args.runs))))
    return 0


def _annotations(args: argparse.Namespace) -> int:
    from harness.report.annotations import of_records, of_troubles
    from harness.report.history import records_of, runs_of
    from harness.report.merge import apart
    from harness.report.regression.missing import troubles

    runs = apart(runs_of(args.runs))
    print("\n".join([*of_troubles(troubles([], [], runs)), *of_records(records_of(runs))]))
    return 0
