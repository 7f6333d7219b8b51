"""A spec with data, shapes, tolerance or precisions of the user's own instead of those that it has."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.data.arrays import load_array
from harness.errors import UsageError
from harness.paths import no_file
from harness.precision import Precision
from harness.spec.errors import spec_error
from harness.spec.model_spec import ModelSpec, Part, PrecisionSpec, Shape, ShapeRange, ToleranceSpec

_BOUNDS = ("min", "opt", "max")


@dataclass(frozen=True)
class Override:
    """What replaces parts of a spec; what is empty or None leaves them.

    `data`: npz file with an array for each input by name, or npy file for a model of one input.  `shapes`:
    min, opt and max by input name, of one profile instead of the spec's.  `tolerance`: for every precision.
    `precisions`: instead of the spec's, which a model without a spec takes whole.
    """

    data: Path | None = None
    shapes: Mapping[str, tuple[Shape, Shape, Shape]] = field(default_factory=dict)
    tolerance: ToleranceSpec | None = None
    precisions: tuple[Precision, ...] = ()

    @classmethod
    def parse(cls, data: Path | None, shapes: Sequence[str], tolerance: str | None) -> Override:
        """What `--trt-data`, `--trt-shape` and `--trt-tolerance` say.  Raises UsageError."""
        known = dict(parse_shape(text) for text in shapes)
        return cls(data, known, parse_tolerance(tolerance) if tolerance else None)

    def applied(self, spec: ModelSpec, *, drafted: bool = False) -> ModelSpec:
        """`spec` with this in it.  Raises UsageError, one line.

        `drafted`: nobody wrote the spec, so the shapes of data that are given count, but for the batch axis.
        """
        if self == Override():
            return spec
        tables = parts_of(spec)
        if self.precisions:
            tables["precisions"] = self.precisions
        if self.data is not None:
            self._put_data(spec, tables)
        if self.shapes:
            _put_shapes(spec, tables, self.shapes)
        if self.tolerance is not None:
            _put_tolerance(tables, self.tolerance)
        made = validated(spec, tables)
        return _shaped_by_data(made) if drafted and self.data and not self.shapes else made

    def _put_data(self, spec: ModelSpec, tables: dict[str, Any]) -> None:
        assert self.data is not None
        if why := no_file(self.data):
            raise UsageError(f"--trt-data = {str(self.data)!r}: {why}")
        given = _sources(spec, self.data.resolve())
        fed = {name: {**parts_of(spec.inputs[name]), "data": source} for name, source in given.items()}
        tables["inputs"] = {**spec.inputs, **fed}


def parse_shape(text: str) -> tuple[str, tuple[Shape, Shape, Shape]]:
    """Input name, and min, opt and max shape, from `x=1x3x8` or `x=1x3:4x3:8x3`.  Raises UsageError."""
    name, mark, sizes = text.rpartition("=")
    parts = sizes.split(":")
    if not mark or len(parts) not in (1, 3) or not all(re.fullmatch(r"(\d+(x\d+)*)?", p) for p in parts):
        rule = "must be NAME=1x3x224x224, or NAME=MIN:OPT:MAX with three such shapes"
        raise UsageError(f"--trt-shape = {text!r}: {rule}")
    shapes = [tuple(int(size) for size in part.split("x") if size) for part in parts]
    return name, (shapes[0], shapes[len(shapes) // 2], shapes[-1])


def parse_tolerance(text: str) -> ToleranceSpec:
    """A tolerance from `1e-3`, or `limit=5e-3,expected=1e-3,row=0.1,element=0.5`.  Raises UsageError."""
    parts = text.split(",") if "=" in text else [f"limit={text}"]
    try:
        found = {key.strip(): float(value) for key, _, value in (part.partition("=") for part in parts)}
    except ValueError:
        found = {}
    if "limit" not in found or not found.keys() <= set(ToleranceSpec.model_fields):
        rule = "must be a number, or limit=5e-3 and besides, if wanted, expected, row and element"
        raise UsageError(f"--trt-tolerance = {text!r}: {rule}")
    return tolerance_of(**found)


def tolerance_of(limit: float, **more: float | None) -> ToleranceSpec:
    """The limit of the mean relative error, and `expected`, `row`, `element`.  Raises UsageError."""
    try:
        return ToleranceSpec.model_validate({"limit": limit, **more})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"tolerance = {limit:g}: {first['msg'].removeprefix('Value error, ')}") from error


def _sources(spec: ModelSpec, file: Path) -> dict[str, dict[str, str]]:
    """The data source of each input that `file` has an array for."""
    if file.suffix == ".npy":
        if len(spec.inputs) != 1:
            names = ", ".join(map(repr, spec.inputs))
            raise UsageError(f"--trt-data = {str(file)!r}: an npy file is for one input; there are {names}")
        return {name: {"npy": str(file)} for name in spec.inputs}
    held = _members(file)
    lost = [name for name in spec.inputs if name not in held]
    if lost and (len(lost) == len(spec.inputs) or set(held) - set(spec.inputs)):
        rule = f"holds no array for the input {lost[0]!r}, but {', '.join(map(repr, held)) or 'nothing'}"
        raise UsageError(f"--trt-data = {str(file)!r}: {rule}")
    return {name: {"npz": str(file), "member": name} for name in spec.inputs if name in held}


def _members(file: Path) -> list[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise UsageError(f"--trt-data = {str(file)!r}: cannot be read as npz: {error}") from error


def _put_shapes(
    spec: ModelSpec, tables: dict[str, Any], shapes: Mapping[str, tuple[Shape, Shape, Shape]]
) -> None:
    """One profile, the spec's first, with `shapes`."""
    lost = [name for name in shapes if name not in spec.inputs]
    if lost:
        there = ", ".join(map(repr, spec.inputs))
        raise UsageError(f"--trt-shape = {lost[0]!r}: no such input; the inputs are {there}")
    first = spec.profiles[0]
    own = {name: dict(zip(_BOUNDS, three, strict=True)) for name, three in shapes.items()}
    tables["profiles"] = ({"name": first.name, "shapes": {**first.shapes, **own}},)
    tables["benchmark"] = {}


def _put_tolerance(tables: dict[str, Any], tolerance: ToleranceSpec) -> None:
    known = tables["precision"]
    own = {
        precision: {**parts_of(known.get(precision, PrecisionSpec())), "tolerance": tolerance}
        for precision in tables["precisions"]
    }
    tables["precision"] = {**known, **own}


def parts_of(part: Part) -> dict[str, Any]:
    """The fields of a table of a spec as they are, to make another of; a dump would lose named axes."""
    return {name: getattr(part, name) for name in type(part).model_fields}


def validated(spec: ModelSpec, tables: Mapping[str, Any]) -> ModelSpec:
    """A spec of `tables` in the place of `spec`.  Raises SpecError."""
    try:
        made = ModelSpec.model_validate(tables)
    except ValidationError as error:
        raise spec_error(spec.path or spec.name, error) from error
    made._path = spec.path
    return made


def _shaped_by_data(spec: ModelSpec) -> ModelSpec:
    """`spec` with the sizes of its arrays on every axis but the batch axis."""
    first = spec.profiles[0]
    own: dict[str, Any] = {}
    for name, part in spec.inputs.items():
        if part.data.generator is None:
            sizes = load_array(spec, f"inputs.{name}.data", part.data).shape
            own[name] = _fitted(first.shapes[name], sizes, part.batch_axis) or first.shapes[name]
    profile = {"name": first.name, "shapes": {**first.shapes, **own}}
    return validated(spec, {**parts_of(spec), "profiles": (profile,)})


def _fitted(held: ShapeRange, sizes: Shape, batch_axis: int | None) -> dict[str, Shape] | None:
    """The range with `sizes`; None where they are of another rank, which is told where they are fed."""
    rank = len(held.opt)
    if len(sizes) == rank + 1:
        return dict.fromkeys(_BOUNDS, tuple(sizes[1:]))
    if len(sizes) != rank:
        return None
    return {
        bound: tuple(
            getattr(held, bound)[axis] if axis == batch_axis else size for axis, size in enumerate(sizes)
        )
        for bound in _BOUNDS
    }
