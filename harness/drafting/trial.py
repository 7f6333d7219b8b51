"""Finds shapes and values at which ONNX Runtime really runs a model; meant for a process of its own.

Imports stand inside functions: collecting imports this module, and only the child runs it.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.data.shapes import cases_of
from harness.drafting.candidates import LENGTHS, SIDES, ranges_to_try, sizes_to_try, values_to_try
from harness.drafting.guesses import DraftInput
from harness.drafting.relations import related, states
from harness.drafting.result import Draft, fixed, spec_of, symbols_of
from harness.precision import Precision, PrecisionPlan

if TYPE_CHECKING:
    import onnx_ir as ir

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
PROBED = (8, 16)
"""Lengths at which a reading of the axes is tried."""


def untried(inputs: tuple[DraftInput, ...], remark: str) -> Draft:
    """A draft that nothing has vouched for."""
    sizes = {
        s: {"batch": 1, "side": SIDES[0]}.get(kind, LENGTHS[0]) for s, kind in symbols_of(inputs).items()
    }
    return Draft(inputs, fixed(sizes), {i.name: i.values for i in inputs}, doubts=(remark,))


def explore(path: str, inputs: tuple[DraftInput, ...], budget_s: float) -> Draft:
    """A draft at which ONNX Runtime runs the model at `path`; if there is none, an untried one."""
    from harness.graph.file import read
    from harness.lowering.formats.single import to_single
    from harness.lowering.passes.normalise import normalise
    from harness.lowering.refusals import check_reference

    model = normalise(read(path))
    check_reference(model)
    precisions = precisions_of(to_single(model))
    trial = Trial(model, inputs, time.monotonic() + budget_s)
    trial = trial.reading() or trial
    inputs, base = trial.inputs, trial.base()
    if base is None:
        remark = f"no shape was found that ONNX Runtime runs; last it said: {trial.said}"
        return replace(untried(inputs, remark), precisions=precisions)
    found = trial.steadied(trial.widened(base))
    return replace(found, precisions=precisions, remarks=(*found.remarks, *trial.fixed_batch(found)))


def precisions_of(model: ir.Model) -> tuple[Precision, ...]:
    """The usual precisions that make sense for the normalised `model`.

    One that is quantized already is INT8, one in FP16 has no FP32, and one without weighted nodes no INT8.
    """
    from harness.backends.onnxruntime.audit import node_precisions
    from harness.lowering.formats.int8 import is_quantized

    if is_quantized(model):
        return Precision.INT8, Precision.INT8_FP16
    words = set(node_precisions(model).values())
    is_half = Precision.FP16 in words and Precision.FP32 not in words
    plain = (Precision.FP16,) if is_half else (Precision.FP32, Precision.FP16)
    return (*plain, Precision.INT8) if _quantizes(model) else plain


def _quantizes(model: ir.Model) -> bool:
    """Whether INT8 finds something to quantize, and lowers it with whatever ranges."""
    from harness.errors import HarnessError
    from harness.lowering.lower import lower, quantizable

    plan = PrecisionPlan(Precision.INT8)
    nodes = quantizable(model, plan)
    try:
        lower(model, plan, {name: 1.0 for node in nodes for name in node.activations})
    except HarnessError:
        return False
    return bool(nodes)


class Trial:
    """One engine and what is tried on it; `said` is the last error, `seconds` the last run's duration.

    `model` is normalised, as for all that follows: ONNX Runtime opens some models in no other form.
    """

    def __init__(self, model: ir.Model, inputs: tuple[DraftInput, ...], deadline: float) -> None:
        from harness.backends.onnxruntime.models import open_model

        self._inputs, self._deadline = inputs, deadline
        self._engine = open_model(model)
        self.said, self.seconds = "nothing", 0.0

    @property
    def inputs(self) -> tuple[DraftInput, ...]:
        """The inputs, and how their axes are read."""
        return self._inputs

    def reading(self) -> Trial | None:
        """This trial with its axes read so that the model runs at two lengths; None if no reading does.

        Axes are taken as the file gives them first, then as `related` would have them.
        """
        for inputs in (self._inputs, *related(self._inputs)):
            if time.monotonic() > self._deadline:
                return None
            other = copy.copy(self)
            other._inputs = inputs
            if all(other._runs_at(length) for length in PROBED):
                return other
        return None

    def _runs_at(self, length: int) -> bool:
        """Whether the model runs where lengths are `length` and one more than it, and so on."""
        symbols = symbols_of(self._inputs)
        lengths = [symbol for symbol, kind in symbols.items() if kind == "length"]
        sizes = {s: {"batch": 1, "side": SIDES[0]}.get(kind, length) for s, kind in symbols.items()}
        apart = sizes | {symbol: length + k for k, symbol in enumerate(lengths)}
        values = {i.name: i.values for i in self._inputs}
        return self._runs(Draft(self._inputs, fixed(apart), values)) is not None

    def base(self) -> Draft | None:
        """The first sizes and values at which the model runs, best with finite outputs."""
        spare: Draft | None = None
        for sizes, values in itertools.product(
            sizes_to_try(symbols_of(self._inputs)), values_to_try(self._inputs)
        ):
            if time.monotonic() > self._deadline:
                break
            draft = Draft(self._inputs, fixed(sizes), values)
            finite = self._runs(draft)
            if finite:
                return draft
            if finite is not None and spare is None:
                remark = "outputs are not finite with any values tried: give it real data"
                spare = Draft(self._inputs, fixed(sizes), values, doubts=(remark,))
        return spare

    def widened(self, base: Draft) -> Draft:
        """`base` with the widest ranges that hold at all of their cases."""
        symbols = symbols_of(self._inputs)
        steps: list[Callable[[str], bool]] = [
            lambda _: True,
            lambda kind: kind == "batch",
            lambda kind: kind != "batch",
        ]
        multiple = self._multiple(base)
        for wide in steps:
            free = {symbol for symbol, kind in symbols.items() if wide(kind)}
            for ranges in ranges_to_try(base.ranges.opt, symbols, free, multiple, self.seconds):
                draft = replace(base, ranges=ranges)
                if self._holds(draft):
                    return self._emptied(draft)
        return base

    def _emptied(self, draft: Draft) -> Draft:
        """`draft` with states that are empty at first, where the model takes them so."""
        found = states(self._inputs)
        if not found:
            return draft
        low = {**draft.ranges.min, **dict.fromkeys(found, 0)}
        empty = replace(draft, ranges=replace(draft.ranges, min=low))
        return empty if self._holds(empty) else draft

    def steadied(self, draft: Draft) -> Draft:
        """`draft` with the first values whose outputs are finite in all that the suites will feed."""
        alternatives = () if draft.doubts else (draft.values, *values_to_try(self._inputs))
        tried = (replace(draft, values=values) for values in alternatives)
        found = next((one for one in tried if self._stays_finite(one)), None)
        doubt = "outputs are not finite at every shape with any values tried: give it real data"
        return found or replace(draft, doubts=(*draft.doubts, *(() if draft.doubts else (doubt,))))

    def fixed_batch(self, draft: Draft) -> tuple[str, ...]:
        """What is to be said of a batch that the file leaves open, and that runs at 1 alone."""
        batches = [s for s, kind in symbols_of(self._inputs).items() if kind == "batch"]
        if not batches or any(draft.ranges.max[symbol] > 1 for symbol in batches):
            return ()
        if (
            self._runs(replace(draft, ranges=fixed({**draft.ranges.opt, **dict.fromkeys(batches, 2)})))
            is None
        ):
            return (f"the batch is 1, though the file leaves it open: at 2 it does not run: {self.said}",)
        return ("the batch is 1, though the file leaves it open and 2 runs: larger ones took too long",)

    def _stays_finite(self, draft: Draft) -> bool:
        from harness.data.inputs import Feeds
        from harness.verdict.tasks import tasks_of

        spec = spec_of(draft)
        feeds = (feed for task in tasks_of(spec, Feeds(spec)) for feed in task.feeds)
        return all(time.monotonic() > self._deadline or self._run(feed) for feed in feeds)

    def _multiple(self, base: Draft) -> int:
        """The smallest step by which sides and lengths may grow; 0 if none was found."""
        free = [s for s, kind in symbols_of(self._inputs).items() if kind != "batch"]
        for multiple in MULTIPLES if free else ():
            grown = {s: size + multiple * (s in free) for s, size in base.ranges.opt.items()}
            aligned = all(base.ranges.opt[s] % multiple == 0 for s in free)
            if aligned and self._runs(Draft(base.inputs, fixed(grown), base.values)) is not None:
                return multiple
        return 0

    def _holds(self, draft: Draft) -> bool:
        profile = spec_of(draft).profiles[0]
        return all(self._run_at(draft, case.shapes) is not None for case in cases_of(profile))

    def _runs(self, draft: Draft) -> bool | None:
        """Whether outputs are finite at the draft's opt shapes; None if the model does not run there."""
        return self._run_at(draft, draft.shapes("opt"))

    def _run_at(self, draft: Draft, shapes: Mapping[str, Sequence[int]]) -> bool | None:
        from harness.data.inputs import Feeds

        return self._run(Feeds(spec_of(draft)).feed({name: tuple(shape) for name, shape in shapes.items()}))

    def _run(self, feeds: Mapping[str, Any]) -> bool | None:
        from harness.errors import RunError

        start = time.monotonic()
        try:
            outputs = self._engine.run(feeds)
        except RunError as error:
            self.said = str(error)
            return None
        self.seconds = time.monotonic() - start
        return all(_finite(output) for output in outputs.values())


def _finite(output: Any) -> bool:
    import numpy as np

    return bool(np.isfinite(np.asarray(output, np.float64)).all()) if output.dtype.kind in "fV" else True
