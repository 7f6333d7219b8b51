"""ModelSpec: one model to validate, as frozen data; its tables are in `spec_data` and `spec_parts`.

Reading and writing are in `spec_file`, the checks that need the ONNX file in `spec_check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from harness.lowering.targets import Target
from harness.precision import TOLERANCES, Precision, PrecisionPlan, Tolerance
from harness.spec.axes import parse
from harness.spec.loop import LoopSpec
from harness.spec.parts import (
    BenchmarkSpec,
    BuildSpec,
    CalibrationSpec,
    ModelSource,
    OutputSpec,
    PackageMember,
    PrecisionSpec,
    PropertyException,
    TaskSpec,
    ToleranceSpec,
)
from harness.spec.profiles import Profile, ShapeRange
from harness.spec.tensors import DataSource, InputSpec
from harness.spec.terms import Terms
from harness.spec.types import DType, Part, SafeName, Shape

__all__ = [
    "BenchmarkSpec",
    "BuildSpec",
    "CalibrationSpec",
    "DType",
    "DataSource",
    "InputSpec",
    "LoopSpec",
    "ModelSource",
    "ModelSpec",
    "OutputSpec",
    "PackageMember",
    "Part",
    "PrecisionSpec",
    "Profile",
    "PropertyException",
    "Shape",
    "ShapeRange",
    "TaskSpec",
    "ToleranceSpec",
]


class ModelSpec(Part):
    """One model to validate: file, inputs, outputs, profiles, precisions, task, benchmark, build."""

    name: SafeName
    description: str = ""
    license: str = ""
    model: ModelSource
    assets: dict[SafeName, PackageMember] = Field(default_factory=dict)
    inputs: Annotated[dict[str, InputSpec], Field(min_length=1)]
    outputs: dict[str, OutputSpec] = Field(default_factory=dict)
    profiles: Annotated[tuple[Profile, ...], Field(min_length=1)]
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = (
        Precision.FP32,
        Precision.FP16,
        Precision.INT8,
    )
    precision: dict[Precision, PrecisionSpec] = Field(default_factory=dict)
    task: TaskSpec | None = None
    loop: LoopSpec | None = None
    benchmark: BenchmarkSpec = BenchmarkSpec()
    build: BuildSpec = BuildSpec()
    exceptions: tuple[PropertyException, ...] = ()
    target: Target = "tensorrt"
    _path: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        _no_duplicates("profiles", (p.name for p in self.profiles))
        _no_duplicates("precisions", (str(p) for p in self.precisions))
        for index, profile in enumerate(self.profiles):
            self._check_profile(f"profiles[{index}].shapes", profile)
        for precision, part in self.precision.items():
            _known(f"precision.{precision}.calibration.data", part.calibration.data, self.inputs)
            self._check_tolerance(precision)
        if self.loop is not None:
            self._check_loop(self.loop)
        self._check_offsets()
        return self

    def _check_offsets(self) -> None:
        for name, part in self.inputs.items():
            offset = part.data.offset
            if offset and (unknown := sorted(parse(offset).names - self._axes)):
                raise broken(f"inputs.{name}.data.offset", offset, self._no_axis(unknown[0]))

    @property
    def _axes(self) -> set[str]:
        return {name for profile in self.profiles for name in profile.axes}

    def _no_axis(self, name: str) -> str:
        known = ", ".join(map(repr, sorted(self._axes))) or "none"
        return f"no profile has an axis {name!r}; they have {known}"

    def _check_loop(self, loop: LoopSpec) -> None:
        for output, fed in loop.feed.items():
            _known(f"loop.feed.{output}", [fed.to], self.inputs)
        if loop.tokens is not None:
            _known("loop.tokens.to", [loop.tokens.to], self.inputs)
        _known("loop.series", loop.series, self.inputs)
        for name in loop.start:
            if name not in self._axes:
                raise broken("loop.start", name, self._no_axis(name))

    def _check_tolerance(self, precision: Precision) -> None:
        table, own = TOLERANCES[precision], self.precision[precision].tolerance
        if own.expected is not None and own.limit is None and own.expected > table.limit:
            rule = f"must be <= the limit, {table.limit:g} unless the spec sets `limit` too"
            raise broken(f"precision.{precision}.tolerance.expected", own.expected, rule)

    def _check_profile(self, key: str, profile: Profile) -> None:
        _known(key, profile.shapes, self.inputs)
        for name, spec in self.inputs.items():
            if name not in profile.shapes:
                raise broken(key, list(profile.shapes), f"needs a shape range for the input {name!r}")
            rank, first = len(profile.shapes[name].opt), self.profiles[0].shapes
            if name in first and rank != len(first[name].opt):
                raise broken(key, name, f"has rank {rank} here and {len(first[name].opt)} in another profile")
            if rank and spec.batch_axis is not None and spec.batch_axis >= rank:
                raise broken(
                    f"inputs.{name}.batch_axis", spec.batch_axis, f"must be < {rank}, the input's rank"
                )

    @property
    def path(self) -> Path | None:
        """The file that the spec was read from; None for one made in memory."""
        return self._path

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the spec start from."""
        return self._path.parent if self._path else Path.cwd()

    def of(self, precision: Precision) -> PrecisionSpec:
        """What the spec says of `precision`; the defaults where it says nothing."""
        return self.precision.get(precision, PrecisionSpec())

    def plan(self, precision: Precision) -> PrecisionPlan:
        """The precision plan for `precision`."""
        part = self.of(precision)
        return PrecisionPlan(precision, part.fp32_nodes, part.fp32_op_types)

    def tolerance(self, precision: Precision, *, strict: bool = False) -> Tolerance:
        """The table's tolerance with the spec's overrides; `strict` makes expected the limit."""
        table, own = TOLERANCES[precision], self.of(precision).tolerance
        limit = own.limit or table.limit
        expected = min(own.expected or table.expected, limit)
        top1 = table.top1 if own.top1 is None else own.top1
        found = Tolerance(expected, limit, own.row, own.element, own.slice, top1)
        return found.strict() if strict else found

    def terms(self, precision: Precision, *, strict: bool = False) -> Terms:
        """What the outputs of an engine of `precision` are judged by."""
        return Terms(precision, self.tolerance(precision, strict=strict), self.outputs)


def broken(key: str, value: object, rule: str) -> PydanticCustomError:
    """The error of a rule between tables; `spec_file` reads key, value and rule out of it."""
    return PydanticCustomError("broken_rule", "{rule}", {"key": key, "value": value, "rule": rule})


def _no_duplicates(key: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise broken(key, twice[0], "is there twice")


def _known(key: str, names: Iterable[str], inputs: Iterable[str]) -> None:
    for name in names:
        if name not in inputs:
            raise broken(key, name, f"no such input; the inputs are {', '.join(map(repr, inputs))}")
