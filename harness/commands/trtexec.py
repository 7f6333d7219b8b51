"""`trt-harness trtexec SPEC --precision fp16`: the command lines that do the same with trtexec."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

    from harness.reproduce.trtexec import Case
    from harness.spec.model_spec import ModelSpec

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int8+fp16")


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    text = "write the lowered ONNX file, and print trtexec command lines that build and time the same engine"
    parser = subparsers.add_parser("trtexec", help=text, description=text)
    parser.add_argument("spec", type=Path, metavar="SPEC", help="spec.toml or its folder, or an ONNX file")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="(default: fp32)")
    parser.add_argument("--release", type=int, choices=(10, 11), default=11,
                        help="major release of trtexec (default: 11)")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="FOLDER",
                        help="where the ONNX file goes (default: here)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write and print.  Raises UsageError."""
    from harness.drafting.resolve import resolve
    from harness.precision import Precision
    from harness.reproduce.trtexec import commands

    spec = resolve(args.spec)
    case = _case(spec, Precision(args.precision), args.output)
    shapes = [
        (number, {name: part.opt for name, part in profile.shapes.items()})
        for number, profile in enumerate(spec.profiles)
    ]
    print(commands(case, args.release, shapes))
    return 0


def _case(spec: ModelSpec, precision: Any, folder: Path) -> Case:
    from harness.backends.choose import create
    from harness.backends.tensorrt.builder.fence import fence
    from harness.backends.tensorrt.tasks import kept_by_plan
    from harness.engines.subject import Subject
    from harness.graph import file as onnx_file
    from harness.options import default_cache_dir
    from harness.reproduce.trtexec import Case
    from harness.storage.cache import Cache

    subject = Subject(spec, create("onnxruntime"), Cache(default_cache_dir()))
    weak = spec.build.typing == "weak"
    lowered = None if weak else subject.lowered(precision)
    model = subject.normalised if lowered is None else fence(lowered.model)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{spec.name}-{precision}.onnx"
    onnx_file.write(model, path)
    return Case(
        path,
        path.with_suffix(".engine"),
        precision,
        spec.profiles,
        spec.build,
        _dynamic(model),
        kept_by_plan(lowered) if lowered else _kept(subject.normalised, spec, precision),
        any(part.data.generator is None for part in spec.inputs.values()),
    )


def _dynamic(model: ir.Model) -> tuple[str, ...]:
    """Inputs with an axis whose size is not fixed."""
    return tuple(
        value.name or ""
        for value in model.graph.inputs
        if value.shape is not None and not all(isinstance(size, int) for size in value.shape)
    )


def _kept(model: ir.Model, spec: ModelSpec, precision: Any) -> tuple[str, ...]:
    from harness.graph.walk import all_nodes

    plan = spec.plan(precision)
    nodes = ((node.name or "", node.op_type) for node in all_nodes(model.graph))
    return tuple(name for name, op_type in nodes if plan.keeps(name, op_type))
