"""The tables of a model spec about tensors: their data, their dtypes and their shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.spec_types import Axis, CodeRef, Count, DType, FilePath, Finite, Part, SafeName, Shape


class DataSource(Part):
    """Real or generated data of one tensor; exactly one kind.

    Array data (`npz` + `member`, `npy`, `loader`) has either the rank of the input (rows along the batch
    axis are samples) or one more (the first axis is samples, each fed alone).  `loader` is
    `file.py:function` beside the spec; it returns an array and takes no argument, or one: the paths of the
    spec's assets by name.  Generators: `uniform` in [low, high) (default [0, 1)), `normal` with mean and
    std (default 0 and 1), `integers` in [low, high), as NumPy counts them.
    """

    npz: FilePath | None = None
    member: str | None = None
    npy: FilePath | None = None
    loader: CodeRef | None = None
    generator: Literal["uniform", "normal", "integers"] | None = None
    low: Finite | None = None
    high: Finite | None = None
    mean: Finite | None = None
    std: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _one_kind(self) -> DataSource:
        kinds = [k for k in ("npz", "npy", "loader", "generator") if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise ValueError(f"needs exactly one of npz, npy, loader, generator; has {kinds or 'none'}")
        if (self.member is not None) != (self.npz is not None):
            raise ValueError("`member` goes with `npz`")
        self._check_generator()
        return self

    def _check_generator(self) -> None:
        bounds, moments = (self.low, self.high), (self.mean, self.std)
        if self.generator is None and (bounds + moments != (None,) * 4 or self.seed):
            raise ValueError("low, high, mean, std and seed go with `generator`")
        if self.generator == "integers" and None in bounds:
            raise ValueError("`integers` needs low and high")
        if self.generator == "normal" and bounds != (None, None):
            raise ValueError("`normal` takes mean and std, not low and high")
        if self.generator in ("uniform", "integers") and moments != (None, None):
            raise ValueError(f"`{self.generator}` takes low and high, not mean and std")
        if self.generator in ("uniform", "integers") and self.bounds[0] >= self.bounds[1]:
            raise ValueError("must hold low < high (high itself is never drawn)")

    @property
    def bounds(self) -> tuple[float, float]:
        """`low` and `high`, with the defaults of `uniform`."""
        return (0.0 if self.low is None else self.low, 1.0 if self.high is None else self.high)


class InputSpec(Part):
    """One model input: NumPy dtype name, where its data comes from, which axis counts samples."""

    dtype: DType
    data: DataSource
    batch_axis: Axis | None = 0


class ShapeRange(Part):
    """Smallest, usual and largest shape of one input in one profile; a bare list means all three.

    `multiple_of`: per axis, what every size the harness picks between them is a multiple of.
    """

    min: Shape
    opt: Shape
    max: Shape
    multiple_of: tuple[Count, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_list(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            value = {"min": value, "opt": value, "max": value}
        if not isinstance(value, dict):
            raise ValueError("must be a list of sizes, or a table of min, opt and max")
        return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _ordered(self) -> ShapeRange:
        if len({len(self.min), len(self.opt), len(self.max), len(self.multiples)}) != 1:
            raise ValueError("min, opt, max and multiple_of must have one rank")
        if not all(a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError("must hold min <= opt <= max on every axis")
        for shape in (self.min, self.opt, self.max):
            if any(size % m for size, m in zip(shape, self.multiples, strict=True)):
                raise ValueError(f"{list(shape)} is no multiple of multiple_of = {list(self.multiples)}")
        return self

    @property
    def multiples(self) -> tuple[int, ...]:
        """`multiple_of`, with 1 for every axis where it is not given."""
        return (1,) * len(self.min) if self.multiple_of is None else self.multiple_of


class Profile(Part):
    """One optimisation profile: a shape range for every input."""

    name: SafeName = "default"
    shapes: dict[str, ShapeRange]
