"""Finds shapes and values at which ONNX Runtime really runs a model; meant for a process of its own."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.data.shapes import cases_of
from harness.drafting.guesses import Axis, DraftInput, Values
from harness.drafting.relations import offset, related, states
from harness.precision import Precision, PrecisionPlan
from harness.spec.axes import parse

if TYPE_CHECKING:
    import onnx_ir as ir

Sizes = Mapping[str, int]
"""A size for every symbol."""

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
SIDES = (64, 32, 128, 224, 48, 96, 256, 299, 320, 640, 16, 8, 1)
LENGTHS = (32, 16, 64, 8, 128, 1, 2, 4, 48, 80, 100, 160, 256, 400, 512, 1024, 4096, 16000)
FEW = (32, 48, 64, 128, 224, 320, 1, 2)
PROBED = (8, 16)
"""Lengths at which a reading of the axes is tried."""
SLOW_S, VERY_SLOW_S = 0.3, 2.0


@dataclass(frozen=True)
class Ranges:
    """Smallest, usual and largest size of each symbol, and what its sizes are multiples of."""

    min: Sizes
    opt: Sizes
    max: Sizes
    multiple: Sizes


@dataclass(frozen=True)
class Draft:
    """What a spec is written from: ranges of the symbols, values of the inputs, remarks for the user.

    `ignored` outputs are those that cannot be compared; `precisions` those that make sense for the model.
    `doubts`: why the spec does not run as it is; empty where it does.
    """

    inputs: tuple[DraftInput, ...]
    ranges: Ranges
    values: Mapping[str, Values]
    remarks: tuple[str, ...] = field(default=())
    ignored: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8)
    doubts: tuple[str, ...] = ()

    def shapes(self, bound: str) -> dict[str, list[int]]:
        """The shape of every input at `min`, `opt` or `max`, or its `multiple`s."""
        sizes: Sizes = getattr(self.ranges, bound)
        static = 1 if bound == "multiple" else None
        return {i.name: [_size(axis, sizes, static) for axis in i.axes] for i in self.inputs}

    def tables(self) -> dict[str, Any]:
        """`inputs`, `profiles` and `outputs` of the spec."""
        found = {bound: self.shapes(bound) for bound in ("min", "opt", "max", "multiple")}
        if shared(self.inputs):
            return self._named()
        shapes = {
            i.name: {
                **{bound: found[bound][i.name] for bound in ("min", "opt", "max")},
                **(
                    {"multiple_of": found["multiple"][i.name]} if set(found["multiple"][i.name]) - {1} else {}
                ),
            }
            for i in self.inputs
        }
        return {**self._inputs_and_outputs(), "profiles": [{"shapes": shapes}]}

    def _named(self) -> dict[str, Any]:
        """The same with axes by name, where some hang together."""
        kinds = _symbols(self.inputs)
        # Batches were only tried together.
        first = next((symbol for symbol, kind in kinds.items() if kind == "batch"), "")
        said = {name for i in self.inputs for a in i.axes if a.follows for name in parse(a.follows).names}
        names = {s: first if kind == "batch" and s not in said else s for s, kind in kinds.items()}
        axes = {
            symbol: {
                **{bound: getattr(self.ranges, bound)[symbol] for bound in ("min", "opt", "max")},
                **({"multiple_of": step} if (step := self.ranges.multiple[symbol]) != 1 else {}),
            }
            for symbol in dict.fromkeys(names.values())
        }
        shapes = {
            i.name: [a.follows or (names[a.symbol] if a.symbol else a.size) for a in i.axes]
            for i in self.inputs
        }
        return {**self._inputs_and_outputs(), "profiles": [{"axes": axes, "shapes": shapes}]}

    def _inputs_and_outputs(self) -> dict[str, Any]:
        inputs = {
            i.name: {"dtype": i.dtype, "batch_axis": batch_axis(i), "data": self._data(i)}
            for i in self.inputs
        }
        return {"inputs": inputs, "outputs": {name: {"compare": "ignore"} for name in self.ignored}}

    def _data(self, one: DraftInput) -> dict[str, Any]:
        values = dict(self.values[one.name])
        if values.get("generator") == "positions" and (start := offset(one, self.inputs)):
            values["offset"] = start
        return values


def shared(inputs: Sequence[DraftInput]) -> bool:
    """Whether axes hang together: a size follows from others, or two inputs have an axis of one name."""
    axes = [axis for one in inputs for axis in {a.symbol: a for a in one.axes if a.symbol}.values()]
    twice = len({axis.symbol for axis in axes}) < len(axes)
    return twice or any(axis.follows for one in inputs for axis in one.axes)


def batch_axis(drafted: DraftInput) -> int:
    """The first axis that counts samples, as far as anyone can tell."""
    kinds = [axis.kind for axis in drafted.axes]
    return kinds.index("batch") if "batch" in kinds else 0


def untried(inputs: tuple[DraftInput, ...], remark: str) -> Draft:
    """A draft that nothing has vouched for."""
    sizes = {s: {"batch": 1, "side": SIDES[0]}.get(kind, LENGTHS[0]) for s, kind in _symbols(inputs).items()}
    return Draft(inputs, _fixed(sizes), {i.name: i.values for i in inputs}, doubts=(remark,))


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
        symbols = _symbols(self._inputs)
        lengths = [symbol for symbol, kind in symbols.items() if kind == "length"]
        sizes = {s: {"batch": 1, "side": SIDES[0]}.get(kind, length) for s, kind in symbols.items()}
        apart = sizes | {symbol: length + k for k, symbol in enumerate(lengths)}
        values = {i.name: i.values for i in self._inputs}
        return self._runs(Draft(self._inputs, _fixed(apart), values)) is not None

    def base(self) -> Draft | None:
        """The first sizes and values at which the model runs, best with finite outputs."""
        spare: Draft | None = None
        for sizes, values in itertools.product(_sizes(_symbols(self._inputs)), _alternatives(self._inputs)):
            if time.monotonic() > self._deadline:
                break
            draft = Draft(self._inputs, _fixed(sizes), values)
            finite = self._runs(draft)
            if finite:
                return draft
            if finite is not None and spare is None:
                remark = "outputs are not finite with any values tried: give it real data"
                spare = Draft(self._inputs, _fixed(sizes), values, doubts=(remark,))
        return spare

    def widened(self, base: Draft) -> Draft:
        """`base` with the widest ranges that hold at all of their cases."""
        symbols = _symbols(self._inputs)
        steps: list[Callable[[str], bool]] = [
            lambda _: True,
            lambda kind: kind == "batch",
            lambda kind: kind != "batch",
        ]
        multiple = self._multiple(base)
        for wide in steps:
            free = {symbol for symbol, kind in symbols.items() if wide(kind)}
            for ranges in _ranges(base.ranges.opt, symbols, free, multiple, self.seconds):
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
        alternatives = () if draft.doubts else (draft.values, *_alternatives(self._inputs))
        tried = (replace(draft, values=values) for values in alternatives)
        found = next((one for one in tried if self._stays_finite(one)), None)
        doubt = "outputs are not finite at every shape with any values tried: give it real data"
        return found or replace(draft, doubts=(*draft.doubts, *(() if draft.doubts else (doubt,))))

    def fixed_batch(self, draft: Draft) -> tuple[str, ...]:
        """What is to be said of a batch that the file leaves open, and that runs at 1 alone."""
        batches = [s for s, kind in _symbols(self._inputs).items() if kind == "batch"]
        if not batches or any(draft.ranges.max[symbol] > 1 for symbol in batches):
            return ()
        if (
            self._runs(replace(draft, ranges=_fixed({**draft.ranges.opt, **dict.fromkeys(batches, 2)})))
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
        free = [s for s, kind in _symbols(self._inputs).items() if kind != "batch"]
        for multiple in MULTIPLES if free else ():
            grown = {s: size + multiple * (s in free) for s, size in base.ranges.opt.items()}
            aligned = all(base.ranges.opt[s] % multiple == 0 for s in free)
            if aligned and self._runs(Draft(base.inputs, _fixed(grown), base.values)) is not None:
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


def spec_of(draft: Draft) -> Any:
    """The draft as a `ModelSpec` whose model file nobody reads."""
    from harness.spec.model_spec import ModelSpec

    return ModelSpec.model_validate({"name": "draft", "model": {"onnx": "model.onnx"}, **draft.tables()})


def _finite(output: Any) -> bool:
    import numpy as np

    return bool(np.isfinite(np.asarray(output, np.float64)).all()) if output.dtype.kind in "fV" else True


def _symbols(inputs: Sequence[DraftInput]) -> dict[str, str]:
    """Every symbol and its kind; one that expressions alone name is a length."""
    axes = [axis for i in inputs for axis in i.axes]
    named = {name: "length" for axis in axes if axis.follows for name in sorted(parse(axis.follows).names)}
    return named | {axis.symbol: axis.kind for axis in axes if axis.symbol}


def _size(axis: Axis, sizes: Sizes, static: int | None) -> int:
    if axis.follows:
        return parse(axis.follows).at(sizes) if static is None else static
    return sizes[axis.symbol] if axis.symbol else axis.size if static is None else static


def _fixed(sizes: Sizes) -> Ranges:
    return Ranges(sizes, sizes, sizes, dict.fromkeys(sizes, 1))


def _sizes(symbols: Mapping[str, str]) -> Iterator[Sizes]:
    """Sizes to try, likely ones first: sides alike and lengths alike, then every symbol on its own."""
    batches = {s: 1 for s, kind in symbols.items() if kind == "batch"}
    sides = [s for s, kind in symbols.items() if kind == "side"]
    lengths = [s for s, kind in symbols.items() if kind == "length"]
    for side, length in itertools.product(SIDES if sides else (1,), LENGTHS if lengths else (1,)):
        yield batches | dict.fromkeys(sides, side) | dict.fromkeys(lengths, length)
    free = sides + lengths
    if 1 < len(free) <= 3:
        for mixed in itertools.product(FEW, repeat=len(free)):
            yield batches | dict(zip(free, mixed, strict=True))


def _alternatives(inputs: Sequence[DraftInput]) -> Iterator[dict[str, Values]]:
    """Values to try: as guessed, floats positive, flags set, ids small, integers all one, all zero."""
    yield {i.name: i.values for i in inputs}
    positive: Values = {"generator": "uniform"}
    floats = {i.name: positive for i in inputs if "float" in i.dtype}
    if floats:
        yield {i.name: i.values for i in inputs} | floats
    for integers in (_flags_set(inputs), _below(inputs, 10), *(_only(inputs, k) for k in (1, 0))):
        if integers:
            yield {i.name: i.values for i in inputs} | floats | integers


def _flags_set(inputs: Sequence[DraftInput]) -> dict[str, Values]:
    """Masks and flags all one; ids as guessed."""
    flags = [i for i in inputs if i.values["generator"] == "mask" or i.values.get("high") == 2]
    return {one.name: {"generator": "integers", "low": 1, "high": 2} for one in flags}


def _below(inputs: Sequence[DraftInput], bound: int) -> dict[str, Values]:
    """Ids below `bound`, still different ones; masks and flags all one."""
    ids = [i for i in inputs if i.values["generator"] == "integers" and i.values.get("low") == 0]
    small: Values = {"generator": "integers", "low": 0, "high": bound}
    wide = {i.name: small for i in ids if float(i.values["high"]) > bound}
    return wide and {**wide, **_flags_set(inputs)}


def _only(inputs: Sequence[DraftInput], number: int) -> dict[str, Values]:
    table: Values = {"generator": "integers", "low": number, "high": number + 1}
    return {i.name: table for i in inputs if "float" not in i.dtype}


def _ranges(
    opt: Sizes, symbols: Mapping[str, str], free: set[str], multiple: int, seconds: float
) -> Iterator[Ranges]:
    """Ranges around `opt` for the `free` symbols, wide ones first; batches smaller where a run is slow."""
    batch = (1, 1) if seconds > VERY_SLOW_S else (2, 4) if seconds > SLOW_S else (4, 8)
    for divisor, factor in ((0, 2), (2, 2), (2, 1)):
        low, usual, high, steps = dict(opt), dict(opt), dict(opt), dict.fromkeys(opt, 1)
        for symbol in free:
            if symbols[symbol] == "batch":
                usual[symbol], high[symbol] = (size * opt[symbol] for size in batch)
            elif multiple:
                side, size = symbols[symbol] == "side", opt[symbol]
                shrunk = size // (divisor or (2 if side else size)) // multiple * multiple
                low[symbol], steps[symbol] = max(multiple, shrunk), multiple
                high[symbol] = size if side else size * factor
        yield Ranges(low, usual, high, steps)
