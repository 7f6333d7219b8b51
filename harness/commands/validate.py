"""`trt-harness validate MODEL`: the suites on any model, from any folder, without a checkout."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.flags import FLAGS, Flag
from harness.paths import nothing_at

NAMED = ("--trt-spec", "--trt-onnx")
"""What the models are named by, which here are arguments."""
PATHS = ("--trt-data", "--trt-baseline", "--trt-cache-dir")
NARROWING = ("--trt-model", "--trt-precision")
"""What the command of one failure says for itself."""
PREFIX = "--trt-"


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "validate models: run the suites on them, print the table of verdicts, write the report"
    codes = "exit code 0 if all passes, 1 if something fails, 4 for a mistake"
    parser = subparsers.add_parser("validate", help=text, description=f"{text}; {codes}")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL",
                        help="ONNX file, spec.toml, or folder of specs")  # fmt: skip
    parser.add_argument("--check", action="append", default=[], metavar="NAME",
                        help="engines, outputs, accuracy, layers, loop, metamorphic or latency, repeatable "
                        "(default: all)")  # fmt: skip
    parser.add_argument("-n", "--workers", default="0", metavar="N",
                        help="processes of pytest-xdist, or auto; latency is not measured then "
                        "(default: none)")  # fmt: skip
    for flag in FLAGS:
        if flag.name not in NAMED:
            parser.add_argument(friendly(flag), dest=flag.dest, **flag.settings)


def friendly(flag: Flag) -> str:
    """The option without the prefix that keeps it apart from others of pytest."""
    return "--" + flag.name.removeprefix(PREFIX)


def run(args: argparse.Namespace) -> int:
    """Run the suites in a process of their own; its exit code in ours.  Raises UsageError."""
    from harness.api import suites
    from harness.api.sources import workplace

    suites.require_known("--check", args.check)
    shown = [*map(str, args.models), *_options(args, absolute=False, without=NARROWING)]
    command = shlex.join(["trt-harness", "validate", *shown])
    words = [*_models(args.models), *_options(args, absolute=True, prefix=PREFIX)]
    with workplace() as folder:
        reports = Path(args.trt_report_dir or "reports").expanduser()
        asked = suites.SuiteRun(words, reports, tuple(args.check), command, args.workers)
        return suites.exit_code(suites.execute(asked, folder).returncode)


def _models(models: list[Path]) -> Iterator[str]:
    from harness.drafting.resolve import is_model

    for path in models:
        if why := nothing_at(path):
            raise UsageError(f"{path}: {why}")
        yield f"{'--trt-onnx' if is_model(path) else '--trt-spec'}={path.absolute()}"


def _options(
    args: argparse.Namespace, *, absolute: bool, prefix: str = "--", without: Sequence[str] = ()
) -> Iterator[str]:
    """The options that were given, under names with `prefix`; paths as others see them too if `absolute`."""
    for flag in FLAGS:
        value = getattr(args, flag.dest, None)
        if flag.name in (*NAMED, *without, "--trt-report-dir") or value in (None, flag.settings["default"]):
            continue
        name = prefix + flag.name.removeprefix(PREFIX)
        if value is True:
            yield name
            continue
        for one in value if isinstance(value, list) else [value]:
            path = absolute and flag.name in PATHS
            yield f"{name}={Path(one).expanduser().absolute() if path else one}"
