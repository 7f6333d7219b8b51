"""What the FP32 search asks on real models: lower, emulate, run, compare; and the ranking by a shadow run."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx_ir as ir

from harness.backends.runner import Opener, Tensors
from harness.comparison.emulated_error import Compared, EmulatedError, emulation_opener, open_cpu
from harness.lowering.emulation.emulate import emulate
from harness.lowering.emulation.shadow import shadow_model
from harness.lowering.lower import candidates, lower
from harness.lowering.model import LoweredModel, Ranges
from harness.precision import PrecisionPlan
from harness.search.result import Kept, Ranked, rank

EVERY_NODE = "*"


@dataclass(frozen=True)
class EmulationEvaluator:
    """Errors of a model at a precision, emulated on the CPU, against its FP32 outputs on `feeds`.

    `plan`: the precision, and the op types that stay FP32 whatever is found; its nodes are ignored.
    `error` holds the FP32 outputs.  `feeds` must iterate afresh each time; `ranges` are INT8's.
    """

    normalised: ir.Model
    plan: PrecisionPlan
    feeds: Iterable[Tensors]
    tolerance: float
    error: EmulatedError
    ranges: Ranges | None = None
    opener: Opener | None = None

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """Nodes whose precision a plan decides, in graph order."""
        types = {
            node.name: node.op_type for node in ir.traversal.RecursiveGraphIterator(self.normalised.graph)
        }
        kept = self.plan.fp32_op_types
        names = candidates(self.normalised, self.plan.precision)
        return tuple(name for name in names if types[name] not in kept)

    def __call__(self, kept: Kept) -> float:
        """The largest `mre` of any output with exactly `kept` in FP32, besides the plan's op types."""
        return self.error.of(emulate(self.lowered(kept)))

    def lowered(self, kept: Iterable[str]) -> LoweredModel:
        """The model with `kept` in FP32."""
        return lower(self.normalised, self.keeping(kept), self.ranges)

    def keeping(self, kept: Iterable[str]) -> PrecisionPlan:
        """The plan with `kept` as its nodes, in graph order."""
        wanted = frozenset(kept)
        names = (literal(name) for name in self.candidates if name in wanted)
        return replace(self.plan, fp32_nodes=tuple(names))

    def ranking(self) -> Ranked:
        """Candidates by their own error in a shadow run, largest first."""
        return rank(self.scores(), self.candidates)

    def scores(self) -> dict[str, float]:
        """Each node's own relative error on FP32 inputs, the largest over outputs and samples.

        Infinite where the node's output or what it reads overflows; nodes in subgraphs have none.
        """
        base = lower(self.normalised, PrecisionPlan(self.plan.precision, (EVERY_NODE,)), self.ranges)
        model, probes = shadow_model(base, self.lowered(()), self.candidates)
        names = [name for probe in probes for name in (probe.error, probe.magnitude)]
        scores: dict[str, float] = {}
        if not probes:
            return scores
        opener = self.opener or emulation_opener(self.plan.precision)
        with opener(model, names) as runner:
            for feed in self.feeds:
                sums = runner.run(feed)
                for probe in probes:
                    found = _ratio(sums, probe.error, probe.magnitude)
                    scores[probe.node] = max(scores.get(probe.node, 0.0), found)
        return scores


def evaluator(
    normalised: ir.Model,
    plan: PrecisionPlan,
    feeds: Iterable[Tensors],
    tolerance: float,
    *,
    ranges: Ranges | None = None,
    compared: Compared | None = None,
    opener: Opener | None = None,
) -> EmulationEvaluator:
    """An evaluator that owns its reference outputs.

    Raises DataError without a sample, ModelError where the FP32 outputs are not finite.
    """
    emulation = opener or emulation_opener(plan.precision)
    error = EmulatedError(normalised, feeds, opener or open_cpu, emulation, compared)
    return EmulationEvaluator(normalised, plan, feeds, tolerance, error, ranges, opener)


def literal(name: str) -> str:
    """A glob that matches `name` and nothing else."""
    return glob.escape(name) if any(mark in name for mark in "*?[") else name


def _ratio(sums: Mapping[str, np.ndarray], error: str, magnitude: str) -> float:
    total, size = float(sums[error]), float(sums[magnitude])
    if not np.isfinite(total):
        return float("inf")
    return total / size if size > 0 else float(total > 0)
