"""What a pass is, and the one way to run it: on a clone, with the conditions checked before and after."""

from __future__ import annotations

from abc import ABC, abstractmethod

import onnx_ir as ir

from harness.errors import LoweringError
from harness.graph.file import clone
from harness.graph.walk import defects
from harness.lowering.model import LoweringSummary
from harness.lowering.passes.contract import Contract


class Pass(ABC):
    """One change of a model, in place; its docstring is its numbered rules."""

    name: str

    @abstractmethod
    def apply(self, model: ir.Model) -> LoweringSummary:
        """Change `model`, which is the pass's own, and say what was done."""

    def requires(self, model: ir.Model) -> str | None:  # noqa: ARG002
        """What is wrong with `model` for this pass, beyond an invalid graph; None if nothing is."""
        return None

    def ensures(self, model: ir.Model) -> str | None:  # noqa: ARG002
        """What is wrong with the result, beyond the contract; None if nothing is."""
        return None


def run(step: Pass, model: ir.Model) -> tuple[ir.Model, LoweringSummary]:
    """The result of `step` on a clone of `model`.  Raises LoweringError where a condition does not hold."""
    if problem := next(iter(defects(model)), None) or step.requires(model):
        raise LoweringError(f"{step.name} cannot start: {problem}")
    contract, result = Contract.of(model), clone(model)
    summary = step.apply(result)
    if problem := next(contract.broken(result), None) or step.ensures(result):
        raise LoweringError(f"{step.name} broke its promise: {problem}")
    return result, summary
