"""`trt-harness bundle CASE`: a folder and a zip file that reproduce one failure without this project."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.flags import EFFORTS, FLAGS
from harness.options import Options
from harness.paths import bundled_models

if TYPE_CHECKING:
    from harness.plugin.selection import Case
    from harness.reproduce.failure import Failure

TAKEN = ("--trt-spec", "--trt-onnx", "--trt-backend", "--trt-provider", "--trt-cache-dir", "--trt-strict",
         "--trt-no-code", "--trt-data", "--trt-shape", "--trt-shapes", "--trt-tolerance")  # fmt: skip


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = (
        "pack what reproduces a failure without the harness: models, inputs, outputs, script, command lines"
    )
    parser = subparsers.add_parser("bundle", help=text, description=text)
    where = "a run's folder or results.json, of which the first case is taken whose outputs failed"
    parser.add_argument("case", metavar="CASE", help=f"mnist_cnn-fp16, as in test ids; or {where}")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="(default: bundle-CASE)")
    parser.add_argument(
        "--minimise", action="store_true", help="cut the model to the smallest part that fails"
    )
    parser.add_argument(
        "--passing", action="store_true", help="pack a case that passes, too: its worst answer"
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    for flag in FLAGS:
        if flag.name in TAKEN:
            parser.add_argument(flag.name, flag.name.replace("--trt-", "--"), **flag.settings)


def run(args: argparse.Namespace) -> int:
    """Find the failure, minimise it if asked, and write it.  Raises UsageError, BackendError."""
    from harness.reproduce.bundle import write
    from harness.reproduce.failure import find_failure
    from harness.reproduce.minimise import minimised

    options, case_id = _asked(args)
    case = _case(options, case_id)
    subject = _subject(case, options)
    failure = find_failure(subject, case.precision, strict=options.strict, passing=args.passing)
    folder = args.output or Path(f"bundle-{case.id}")
    with minimised(failure, subject, print) if args.minimise else nullcontext(failure) as smallest:
        failure = smallest
        archive = write(failure, folder, options, force=args.force)
    print("\n".join(_said(failure, folder, archive)))
    return 0


def _said(failure: Failure, folder: Path, archive: Path) -> list[str]:
    from harness.report.terminal import one_line

    state = "fails" if not failure.found.quality else "passes"
    cut = f", {failure.nodes} of {failure.of} nodes" if failure.nodes < failure.of else ""
    what = one_line(f"{failure.label} {failure.place}", 400)
    return [
        f"{what}: {state}, mre {failure.found.mre:.1e}{cut}",
        f"wrote {folder} and {archive}",
        f"reproduce: python {folder / 'reproduce.py'}",
    ]


def _asked(args: argparse.Namespace) -> tuple[Options, str]:
    """The options and the case; both from a run's results, where those are named."""
    options, path = Options.parse(vars(args)), Path(args.case)
    if not os.path.exists(path):
        return options, args.case
    from harness.report import results
    from harness.reproduce.failure import failing

    run = results.read(path)
    found = failing(run.records)
    if not found:
        raise UsageError(f"{path}: no case of this run has outputs that failed")
    for other in found[1:]:
        print(f"also failed: {other}")
    return _as_run(options, run.options), found[0]


def _as_run(options: Options, asked: Any) -> Options:
    """What the run asked for, where the command line does not say."""
    default = Options()
    kept = {
        "specs": tuple(map(Path, asked.get("specs", ()))),
        "onnx": tuple(map(Path, asked.get("onnx", ()))),
        "backend": asked.get("backend", "auto"),
        "provider": asked.get("provider"),
        "strict": bool(asked.get("strict")),
        "data": Path(asked["data"]) if asked.get("data") else None,
        "shapes": tuple(asked.get("shapes", ())),
        "tolerance": asked.get("tolerance"),
        "effort": asked["effort"] if asked.get("effort") in EFFORTS else default.effort,
        "allow_code": bool(asked.get("allow_code", True)),
    }
    same = {name: value for name, value in kept.items() if getattr(options, name) == getattr(default, name)}
    return replace(options, **same)


def _case(options: Options, case_id: str) -> Case:
    from harness.plugin import selection

    found = selection.load(options, [bundled_models()])
    case = found.case(case_id)
    if case is None:
        there = ", ".join(case.id for case in found.cases) or "none; --trt-spec or --trt-onnx name models"
        raise UsageError(f"CASE = {case_id!r}: no such case, run or file; the cases are {there}")
    return case


def _subject(case: Case, options: Options) -> Any:
    from harness.backends.choose import create
    from harness.engines.subject import Subject
    from harness.storage.cache import Cache

    backend = create(options.backend, provider=options.provider)
    return Subject(case.spec, backend, Cache(options.cache_dir), options)
