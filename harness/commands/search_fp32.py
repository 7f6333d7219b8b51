"""`trt-harness search-fp32 SPEC --precision fp16`: the smallest set of nodes that must stay FP32."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.engines.subject import Subject
    from harness.search.case import Proposal
    from harness.search.result import Step

FOUND, NOT_FOUND = 0, 1


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "find the smallest set of nodes that must stay FP32"
    parser = subparsers.add_parser(
        "search-fp32", help=text, description=text + "; exit code 0 if one is found, 1 if not"
    )
    parser.add_argument("spec", type=Path, metavar="SPEC", help="spec.toml or its folder, or an ONNX file")
    parser.add_argument("--precision", required=True, metavar="NAME", help="fp16, bf16, int8 or int8+fp16")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="MRE",
        help="allowed mre, and nothing else (default: the suite's whole rule)",
    )
    parser.add_argument("--apply", action="store_true", help="write the nodes into SPEC, keeping comments")
    parser.add_argument(
        "--evaluations", type=int, metavar="N", help="stop after so many new evaluations (default: no bound)"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after so many (default: no bound)")
    parser.add_argument(
        "--backend", default="auto", metavar="NAME", help="what verifies the answer (default: auto)"
    )
    parser.add_argument("--provider", metavar="NAME", help="ONNX Runtime execution provider")
    parser.add_argument("--cache-dir", type=Path, metavar="PATH", help="(default: the user's cache folder)")
    parser.add_argument("--no-latency", action="store_true", help="do not measure what the nodes cost")


def run(args: argparse.Namespace) -> int:
    """Search, verify, print, and write the spec if asked.  Raises UsageError, BackendError."""
    from harness.search.case import Request, propose
    from harness.search.result import Budget
    from harness.search.words import explain
    from harness.spec.file import find_spec

    args.spec = find_spec(args.spec)
    _check(args)
    subject, start = _subject(args), time.monotonic()
    budget = Budget(args.evaluations, args.seconds)
    _warn(subject, args)
    try:
        found = propose(subject, Request(_precision(args.precision), args.tolerance, budget), _tell)
    except KeyboardInterrupt:
        print(f"\nto go on from here: {_resume(args)}", file=sys.stderr)
        raise
    print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)
    print(explain(found, time.monotonic() - start, _resume(args)))
    if args.apply:
        _apply(args, found)
    if found.found and found.result.nodes and not args.no_latency:
        print(_cost(subject, found))
    return FOUND if found.found else NOT_FOUND


def _warn(subject: Subject, args: argparse.Namespace) -> None:
    """What 16 bits cannot hold of the model, before anything is searched; on stderr: it is no answer."""
    from harness.precision import PrecisionPlan
    from harness.verdict.ranges import ranges_of

    plan = PrecisionPlan(_precision(args.precision), (), subject.spec.plan(args.precision).fp32_op_types)
    for line in ranges_of(subject, plan).warnings:
        print(line, file=sys.stderr)


def _check(args: argparse.Namespace) -> None:
    from harness.errors import UsageError

    for name in ("tolerance", "evaluations", "seconds"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name} = {value}: must be > 0")
    if args.apply and args.spec.suffix == ".onnx":
        raise UsageError(f"--apply: {args.spec} is a model; write a spec first: trt-harness init {args.spec}")


def _precision(name: str) -> Any:
    from harness.errors import UsageError
    from harness.search.case import REDUCED

    if name not in set(REDUCED):
        raise UsageError(f"--precision = {name!r}: must be one of {', '.join(REDUCED)}")
    return next(precision for precision in REDUCED if precision == name)


def _subject(args: argparse.Namespace) -> Subject:
    from harness.backends.choose import create
    from harness.drafting.resolve import resolve
    from harness.engines.subject import Subject
    from harness.options import Options, cache_folder
    from harness.storage.cache import Cache

    spec = resolve(args.spec)
    folder = cache_folder("--cache-dir", args.cache_dir)
    options = Options(backend=args.backend, provider=args.provider, cache_dir=folder)
    return Subject(spec, create(args.backend, provider=args.provider), Cache(folder), options)


def _tell(step: Step) -> None:
    """A line on stderr that is overwritten, or one for each step where it is no terminal."""
    line = f"evaluation {step.number} ({step.stage}): {step.kept} FP32, error {step.mre:.1e}"
    end = "" if sys.stderr.isatty() else "\n"
    print(f"\r\033[K{line}" if not end else line, end=end, file=sys.stderr, flush=True)


def _resume(args: argparse.Namespace) -> str:
    """The command that continues this search."""
    import shlex

    words = ["trt-harness", "search-fp32", str(args.spec), "--precision", args.precision]
    for name in ("tolerance", "backend", "provider", "cache_dir"):
        value = getattr(args, name)
        if value is not None and value != "auto":
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += [f"--{name.replace('_', '-')}" for name in ("apply", "no_latency") if getattr(args, name)]
    return shlex.join(words)


def _cost(subject: Subject, found: Proposal) -> str:
    """What the nodes cost in latency, measured on the engines that a deployment would run."""
    from harness.search.cost import latency_cost

    return latency_cost(subject, found.plan)


def _apply(args: argparse.Namespace, found: Proposal) -> None:
    from harness.spec.file import write_fp32_nodes

    if why := _not_applied(args, found):
        print(f"{args.spec} is left as it is: {why}")
        return
    write_fp32_nodes(args.spec, found.precision, found.plan.fp32_nodes)
    print(f"{args.spec}: fp32_nodes of {found.precision} written ({len(found.plan.fp32_nodes)} nodes)")


def _not_applied(args: argparse.Namespace, found: Proposal) -> str:
    """Why nothing is to be written into the spec, or nothing."""
    from harness.spec.file import read_spec

    if not found.found:
        early = found.result.interrupted and not found.result.passed
        return "no set that passes was found yet" if early else "there is no small set that passes"
    needless = not found.plan.fp32_nodes and not read_spec(args.spec).plan(found.precision).fp32_nodes
    return "no node must stay FP32" if needless else ""
