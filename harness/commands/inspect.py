"""`trt-harness inspect SPEC|ENGINE`: layers of network and engine, inputs, outputs, profiles, memory."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

from harness.errors import BackendUnavailableError, UsageError
from harness.paths import SPEC_NAME, nothing_at

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int8+fp16")
BACKENDS = ("tensorrt", "tensorrt_rtx")
PLANS = (".plan", ".engine", ".trt")


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = (
        "print the layers of network and engine, with tensors, precisions and the ONNX nodes they came from"
    )
    parser = subparsers.add_parser("inspect", help=text, description=text)
    parser.add_argument(
        "what",
        type=Path,
        metavar="SPEC|ENGINE",
        help="spec.toml, ONNX file, plan file, or folder of a spec or engine",
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of a spec (default: fp32)")
    parser.add_argument("--backend", choices=BACKENDS, help="(default: the first that is installed)")


def run(args: argparse.Namespace) -> int:
    """Print.  Raises UsageError, BackendError."""
    if why := nothing_at(args.what):
        raise UsageError(f"{args.what}: {why}")
    if args.what.suffix in (".toml", ".onnx") or (args.what / SPEC_NAME).is_file():
        _spec(args)
    elif args.what.suffix in PLANS and _recorded(args.what):
        _folder(args.what.parent)
    elif args.what.suffix in PLANS:
        _plan(args.what, args.backend or _installed())
    else:
        _check_folder(args.what)
        _folder(args.what)
    return 0


def _recorded(plan: Path) -> bool:
    """Whether the record of its build lies beside a plan file: it tells more, and needs no GPU."""
    from harness.backends.tensorrt.audit.record import LAYERS, PLAN, TASK

    return plan.name == PLAN and all((plan.parent / name).is_file() for name in (TASK, LAYERS))


def _check_folder(folder: Path) -> None:
    from harness.backends.tensorrt.audit.record import LAYERS, TASK

    if not folder.is_dir():
        raise UsageError(
            f"{folder}: neither a spec (.toml), a model (.onnx) nor a plan ({', '.join(PLANS)}), nor a folder"
        )
    for name in (TASK, LAYERS):
        if not (folder / name).is_file():
            raise UsageError(f"{folder}: holds no TensorRT engine that was built here (there is no {name})")


def _installed() -> str:
    """The first backend whose bindings load; the first of all if none does, which then says why."""
    from harness.backends.tensorrt.bindings import load_bindings

    for name in BACKENDS:
        with contextlib.suppress(BackendUnavailableError):
            return load_bindings(name).name
    return BACKENDS[0]


def _spec(args: argparse.Namespace) -> None:
    from harness.backends.choose import create
    from harness.drafting.resolve import resolve
    from harness.engines.subject import Subject
    from harness.options import default_cache_dir
    from harness.precision import Precision
    from harness.storage.cache import Cache
    from harness.verdict.ranges import ranges_of

    spec = resolve(args.what)
    subject = Subject(spec, create(args.backend or _installed()), Cache(default_cache_dir()))
    for line in ranges_of(subject, Precision(args.precision)).warnings:
        print(line)
    built = subject.engine(Precision(args.precision))
    print(f"{built.folder} ({built.reason})")
    _folder(built.folder)


def _folder(folder: Path) -> None:
    from harness.backends.tensorrt.audit.record import read_layers, read_origin, read_task
    from harness.doctor.inspection import engine_text, network_text

    network, engine = read_layers(folder)
    origin, task = read_origin(folder), read_task(folder)
    print(
        f"{task.precision}, built by {origin.backend} {origin.version} for {origin.gpu or 'no GPU in sight'}"
    )
    for number, profile in enumerate(task.profiles):
        shapes = (f"{n} {list(s.min)}..{list(s.opt)}..{list(s.max)}" for n, s in profile.shapes.items())
        print(f"profile {number} {profile.name}: {', '.join(shapes)}")
    print(network_text(network), engine_text(engine), sep="\n")


def _plan(plan: Path, backend: str) -> None:
    from harness.backends.cuda.device import open_device
    from harness.backends.tensorrt.bindings import load_bindings
    from harness.backends.tensorrt.run.engine import TensorRTEngine
    from harness.doctor.inspection import facts_text

    with TensorRTEngine.open(load_bindings(backend), plan, open_device()) as engine:
        print(facts_text(engine.facts()))
