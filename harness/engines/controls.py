"""Runs beside the engine under test that attribute its error; each is made when it is first asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.graph.walk import all_nodes
from harness.lowering.emulation.emulate import emulate
from harness.lowering.emulation.stepped import has_recurrence, stepped
from harness.lowering.lower import lower
from harness.lowering.operators import RECURRENT
from harness.precision import Precision

if TYPE_CHECKING:
    from harness.backends.base import Engine, EngineRun, Run, Tensors
    from harness.engines.subject import Subject


@contextmanager
def without_tf32(subject: Subject) -> Iterator[EngineRun]:
    """A run of the FP32 engine of `subject`, built with TF32 off.  The run raises BackendError."""
    with _lazy(lambda: strict_fp32(subject).engine(Precision.FP32).open("verified")) as opened:

        def run(feeds: Tensors, profile: int = 0) -> Tensors:
            return opened().run(feeds, profile)

        yield run


def strict_fp32(subject: Subject) -> Subject:
    """The same subject with TF32 off."""
    build = subject.spec.build.model_copy(update={"tf32": False})
    spec = subject.spec.model_copy(update={"build": build})
    return replace(subject, spec=spec)


@contextmanager
def quantized_only(subject: Subject, precision: Precision) -> Iterator[Run | None]:
    """A run of the emulation of INT8 alone with the ranges of `int8+fp16`; None for any other precision."""
    if precision is not Precision.INT8_FP16:
        yield None
        return
    with _lazy(lambda: _open_quantized(subject, precision)) as opened:
        yield lambda feeds: opened().run(feeds)


def _open_quantized(subject: Subject, precision: Precision) -> Engine:
    from harness.backends.onnxruntime.backend import SessionSettings, emulation_level, open_model

    plan = replace(subject.plan(precision), precision=Precision.INT8)
    lowered = lower(subject.normalised, plan, subject.ranges(precision))
    settings = SessionSettings(level=emulation_level(Precision.INT8))
    return open_model(emulate(lowered), subject.output_names, settings=settings)


def kept_state(subject: Subject, precision: Precision) -> Run | None:
    """The emulation whose recurrent nodes keep their state in FP32; None where none has 16 bits."""
    if precision.half is None:
        return None
    if not any(node.op_type in RECURRENT for node in all_nodes(subject.normalised.graph)):
        return None
    if not has_recurrence(subject.lowered(precision).model):
        return None
    return subject.emulation(precision, "kept").outputs


@contextmanager
def oracle(subject: Subject, precision: Precision) -> Iterator[Run | None]:
    """A run of the lowered model node by node, which trusts no conversion of the runtime; None at 32 bits."""
    if precision.half is None:
        yield None
        return
    with _lazy(lambda: _open_oracle(subject, precision)) as opened:

        def run(feeds: Tensors) -> Tensors:
            outputs = opened().run(feeds)
            return {name: outputs[name] for name in subject.output_names}

        yield run


def _open_oracle(subject: Subject, precision: Precision) -> Any:
    from harness.backends.onnxruntime.nodewise import Nodewise

    return Nodewise(stepped(subject.lowered(precision).model))


@contextmanager
def _lazy(make: Callable[[], Engine]) -> Iterator[Callable[[], Engine]]:
    """Gives an engine that is opened once, when first asked for, and closed at the end."""
    made: list[Engine] = []
    with ExitStack() as stack:

        def opened() -> Engine:
            if not made:
                made.append(stack.enter_context(make()))
            return made[0]

        yield opened
