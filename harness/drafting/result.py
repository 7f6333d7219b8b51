"""What a spec is drafted from, as data, and the tables that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.drafting.guesses import Axis, DraftInput, Values
from harness.drafting.relations import offset
from harness.precision import Precision
from harness.spec.axes import parse
from harness.spec.model_spec import ModelSpec

Sizes = Mapping[str, int]
"""A size for every symbol."""


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
        kinds = symbols_of(self.inputs)
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


def spec_of(draft: Draft) -> ModelSpec:
    """The draft as a `ModelSpec` whose model file nobody reads."""
    return ModelSpec.model_validate({"name": "draft", "model": {"onnx": "model.onnx"}, **draft.tables()})


def symbols_of(inputs: Sequence[DraftInput]) -> dict[str, str]:
    """Every symbol and its kind; one that expressions alone name is a length."""
    axes = [axis for i in inputs for axis in i.axes]
    named = {name: "length" for axis in axes if axis.follows for name in sorted(parse(axis.follows).names)}
    return named | {axis.symbol: axis.kind for axis in axes if axis.symbol}


def _size(axis: Axis, sizes: Sizes, static: int | None) -> int:
    if axis.follows:
        return parse(axis.follows).at(sizes) if static is None else static
    return sizes[axis.symbol] if axis.symbol else axis.size if static is None else static


def fixed(sizes: Sizes) -> Ranges:
    return Ranges(sizes, sizes, sizes, dict.fromkeys(sizes, 1))
