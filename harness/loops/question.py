"""From a subject to a question about its loop: the reference, the emulation, and who chooses tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.base import Engine, EngineRun, Tensors
from harness.comparison.emulated_error import open_cpu
from harness.engines.subject import Subject
from harness.loops.feeding import Feeding
from harness.loops.run import LoopQuestion
from harness.loops.tokens import argmax
from harness.lowering.emulation.emulate import emulate
from harness.precision import Precision
from harness.spec.loop import LoopSpec
from harness.spec.model_spec import ModelSpec
from harness.spec.user_code import load_function

Array = NDArray[Any]


@contextmanager
def loop_question(
    subject: Subject, precision: Precision, engine: Engine, *, emulated: bool, strict: bool = False
) -> Iterator[LoopQuestion]:
    """What `engine` is asked; `emulated`: it is the emulation itself, so that there is no other.

    Raises UsageError, RunError.
    """
    spec, loop = subject.spec, loop_of(subject.spec)
    feeding = Feeding(spec, loop, subject.feeds)
    with ExitStack() as stack:
        reference = stack.enter_context(reference_of(subject, feeding))
        emulation = None
        if not emulated:
            from harness.backends.onnxruntime.backend import emulation_level

            lowered = emulate(subject.lowered(precision))
            emulation = stack.enter_context(_opened(lowered, feeding, emulation_level(precision)))
        base = LoopQuestion(
            feeding,
            spec.terms(precision, strict=strict),
            lambda feeds: reference(feeds, 0),
            engine.run,
            emulation,
            chooser(spec, allow_code=subject.options.allow_code),
        )
        yield replace(
            base, tf32=precision is Precision.TF32 or (precision is Precision.FP32 and spec.build.tf32)
        )


def loop_of(spec: ModelSpec) -> LoopSpec:
    """The loop of a spec that has one."""
    assert spec.loop is not None
    return spec.loop


@contextmanager
def reference_of(subject: Subject, feeding: Feeding) -> Iterator[EngineRun]:
    """A run of the FP32 reference that gives every output the loop reads."""
    subject.require_survives()
    with _opened(subject.exact, feeding, "none") as run:
        yield run


def chooser(spec: ModelSpec, *, allow_code: bool = True) -> Callable[[Array], Array]:
    """What chooses the tokens of a loop.  Raises UsageError."""
    tokens = loop_of(spec).tokens
    if tokens is None or tokens.choose == "argmax":
        return argmax
    return load_function(spec, "loop.tokens.choose", tokens.choose, allow_code=allow_code)


@contextmanager
def _opened(model: ir.Model, feeding: Feeding, level: str) -> Iterator[EngineRun]:
    with open_cpu(model, names_of(feeding, model), level) as opened:

        def run(feeds: Tensors, profile: int = 0) -> Tensors:  # noqa: ARG001 - of one shape fits all
            found: Tensors = opened.run(feeds)
            return found

        yield run


def names_of(feeding: Feeding, model: ir.Model) -> tuple[str, ...]:
    """The outputs that are compared or fed, in graph order."""
    ignored = {name for name, part in feeding.spec.outputs.items() if part.compare == "ignore"}
    names = (str(value.name) for value in model.graph.outputs)
    return tuple(name for name in names if name not in ignored or name in feeding.loop.read)
