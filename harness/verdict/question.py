"""What is asked of an engine at every shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.backends.base import Engine, EngineRun, Run, Tensors
from harness.comparison.compare import compare_outputs
from harness.comparison.result import OutputsComparison
from harness.data.batches import stacked
from harness.data.inputs import Feeds
from harness.options import Effort
from harness.precision import Precision
from harness.spec.model_spec import ModelSpec
from harness.spec.terms import Terms

if TYPE_CHECKING:
    from harness.engines.reference import Reference


@dataclass(frozen=True)
class Question:
    """What is asked of every shape.

    `emulation` gives the outputs of the same lowered model as ONNX Runtime's CPU provider emulates it; it is
    None where the engine under test is that emulation.  Two more runs attribute the error of an engine that
    fails: `without_tf32` is the FP32 engine built without TF32, `quantized_only` under `int8+fp16` the
    emulation of INT8 alone.  `kept_state` is the emulation of recurrent nodes that keep their state in FP32,
    None where there are none; `oracle` runs the lowered model node by node, before an engine is accused.
    """

    spec: ModelSpec
    terms: Terms
    feeds: Feeds
    engine: Engine
    reference: Reference
    emulation: Run | None = None
    without_tf32: EngineRun | None = None
    quantized_only: Run | None = None
    kept_state: Run | None = None
    oracle: Run | None = None
    effort: Effort = "normal"

    @property
    def precision(self) -> Precision:
        """The precision that was asked for."""
        return self.terms.precision

    @property
    def tf32(self) -> bool:
        """Whether the engine computes in TF32."""
        return self.precision is Precision.TF32 or (self.precision is Precision.FP32 and self.spec.build.tf32)

    def rows(self, feeds: Sequence[Tensors]) -> int:
        """How many samples each of `feeds` holds."""
        return self.feeds.rows({name: array.shape for name, array in feeds[0].items()})

    def compared(
        self,
        actual: Sequence[Tensors],
        expected: Sequence[Tensors],
        rows: int = 1,
        emulation: OutputsComparison | None = None,
    ) -> OutputsComparison:
        """The comparison of the outputs for several feeds of `rows` samples, by the terms of the question."""
        ours, theirs = stacked(actual, rows, expected[0]), stacked(expected, rows)
        return compare_outputs(ours, theirs, self.terms, emulation=emulation)
