"""Whether the real engine needs every node of a small set: built without each in turn, it must fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from harness.engines.subject import Subject
from harness.precision import PrecisionPlan
from harness.verdict.validate import Answer

FEW = 8
"""A set of more nodes is not proved on the engine: each node costs a build."""
Asked = Callable[[PrecisionPlan], Iterable[Answer]]


def spare_nodes(
    subject: Subject, plan: PrecisionPlan, asked: Asked, agrees: Callable[[Answer], bool]
) -> tuple[str, ...] | None:
    """The patterns of `plan` without any one of which the engine passes, too; None where that is not asked.

    It is not asked of more than `FEW` nodes, and not where the engine is the emulation that has shown it
    already.  `asked` gives an engine's answers shape by shape; the first that does not agree decides.
    """
    emulated = subject.backend.info().provider == "CPUExecutionProvider"
    if emulated or not 0 < len(plan.fp32_nodes) <= FEW:
        return None
    return tuple(node for node in plan.fp32_nodes if all(map(agrees, asked(_without(plan, node)))))


def _without(plan: PrecisionPlan, node: str) -> PrecisionPlan:
    return replace(plan, fp32_nodes=tuple(name for name in plan.fp32_nodes if name != node))
