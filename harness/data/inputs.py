"""What engines are fed: real or generated data of a spec, fitted to the shapes of a case."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.arrays import data_error, load_array, numpy_dtype
from harness.data.finite import first_nan
from harness.data.shapes import Case, cases_of
from harness.precision import Precision
from harness.spec.axes import parse, size_of
from harness.spec.errors import dotted
from harness.spec.model_spec import DataSource, InputSpec, ModelSpec, Shape

__all__ = [
    "GENERATED_SAMPLES",
    "Case",
    "Feeds",
    "calibration_data",
    "calibration_feeds",
    "cases_of",
    "labels",
]

GENERATED_SAMPLES = 256
"""How many samples a model has whose inputs are all generated."""


PADDED_EVERY = 8
"""One generated mask of so many leaves something out."""

LARGE_BYTES = 64 * 2**20
"""Arrays up to this size are made without asking whether there is room."""


class Feeds:
    """The data of a spec's inputs, sample by sample; arrays are read when first needed.

    `sources` replaces the data of some inputs.  Array data with the rank of the input has its samples
    along the batch axis; with one axis more, its first axis counts samples, each fed alone.
    """

    def __init__(
        self,
        spec: ModelSpec,
        allow_code: bool = True,
        sources: Mapping[str, tuple[str, DataSource]] | None = None,
    ) -> None:
        self._spec, self._allow_code = spec, allow_code
        own = {name: (dotted(("inputs", name, "data")), part.data) for name, part in spec.inputs.items()}
        self._sources = own | dict(sources or {})

    @property
    def samples(self) -> int:
        """How many different samples there are."""
        counts = [c for name, a in self._arrays.items() if (c := self._count(name, a)) is not None and c > 1]
        return min(counts) if counts else 1 if self._all_fixed else GENERATED_SAMPLES

    @property
    def _all_fixed(self) -> bool:
        return len(self._arrays) == len(self._sources)

    def rows(self, shapes: Mapping[str, Shape]) -> int:
        """How many samples one feed of `shapes` takes."""
        for name, part in self._spec.inputs.items():
            if name in self._arrays and self._alone(name, self._arrays[name]):
                return 1
            if part.batch_axis is not None and shapes[name]:
                return max(1, shapes[name][part.batch_axis])
        return 1

    def feed(self, shapes: Mapping[str, Shape], start: int = 0) -> dict[str, NDArray[Any]]:
        """One array for every input, of exactly `shapes` and the spec's dtypes, from sample `start` on.

        Rows wrap around at the end of the data; other axes are cropped or wrapped.  The same sample has
        the same values whatever the batch size.  Raises DataError.
        """
        return {name: self.array(name, shapes, start) for name in self._spec.inputs}

    def array(self, name: str, shapes: Mapping[str, Shape], start: int = 0) -> NDArray[Any]:
        """The array of one input; `shapes` may tell of others what its data depend on.  Raises DataError."""
        source = self._sources[name][1]
        made = self._one(name, tuple(shapes[name]), start)
        return made if source.offset is None else self._moved(name, made, source.offset, shapes)

    def _moved(
        self, name: str, positions: NDArray[Any], offset: str, shapes: Mapping[str, Shape]
    ) -> NDArray[Any]:
        """Positions from `offset` on, by the first profile whose axes the shapes tell."""
        said = "no profile has named axes"
        for profile in self._spec.profiles:
            try:
                first = size_of(offset, profile.sizes_in(shapes))
                return np.asarray(positions + first, positions.dtype)
            except ValueError as error:
                said = str(error)
        raise data_error(self._spec, f"{self._sources[name][0]}.offset", offset, said)

    def extent(self, name: str) -> tuple[str, object, int, int]:
        """Key and value of the data of the integer input `name`, the smallest and largest number it feeds."""
        key, source = self._sources[name]
        if source.generator == "positions":
            return self._running(name, key, source)
        if name not in self._arrays:
            low, high = (int(bound) for bound in source.bounds)
            return key, {"low": low, "high": high}, low, high - 1
        array, largest = self._arrays[name], self._largest(name)
        for axis, size in enumerate(largest):
            array = array[(slice(None),) * axis + (slice(size),)]
        return key, _file_of(source), int(array.min()), int(array.max())

    def _running(self, name: str, key: str, source: DataSource) -> tuple[str, object, int, int]:
        """The extent of positions, which run to the end of the largest shape."""
        last = 0
        for profile in self._spec.profiles:
            longest = (1, *profile.shapes[name].max)[-1]
            offset = parse(source.offset).bounds(profile.axes)[1] if source.offset and profile.axes else 0
            last = max(last, offset + longest - 1)
        return key, {"generator": "positions"}, 0, last

    def require_numbers(self) -> None:
        """Raise DataError for the first row of the data that holds NaN; data are read block by block."""
        for name, array in self._arrays.items():
            axis = 0 if self._alone(name, array) else self._spec.inputs[name].batch_axis or 0
            if found := first_nan(array, axis):
                row, count, size = found
                rule = f"row {row} holds {count} NaN of {size} elements: clean the data, or leave the row out"
                key, source = self._sources[name]
                raise data_error(self._spec, key, _file_of(source), rule)

    def _largest(self, name: str) -> tuple[int | None, ...]:
        """How much of each axis of the array of `name` is ever fed; None: all of it."""
        shapes = (profile.shapes[name].max for profile in self._spec.profiles)
        sizes: tuple[int | None, ...] = tuple(map(max, zip(*shapes, strict=True)))
        if self._alone(name, self._arrays[name]):
            return (None, *sizes)
        batch = self._spec.inputs[name].batch_axis
        return tuple(None if axis == batch else size for axis, size in enumerate(sizes))

    def _one(self, name: str, shape: Shape, start: int) -> NDArray[Any]:
        part = self._spec.inputs[name]
        self._require_room(name, shape)
        if name not in self._arrays:
            return _generate(name, part, self._sources[name][1], shape, start)
        array = self._arrays[name]
        if self._alone(name, array):
            return _fit(np.asarray(array[start % len(array)]), shape, None, 0)
        return _fit(array, shape, part.batch_axis if shape else None, start)

    def _require_room(self, name: str, shape: Shape) -> None:
        """Raise DataError where the memory would not hold the array: the system might kill the run for it."""
        size = math.prod(shape) * numpy_dtype(self._spec.inputs[name].dtype).itemsize
        if size <= LARGE_BYTES:
            return
        import psutil

        if size > (free := psutil.virtual_memory().available):
            rule = f"needs {size} bytes, of which {free} are free"
            raise data_error(self._spec, dotted(("profiles", "shapes", name)), list(shape), rule)

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {n: self._load(n) for n, (_, source) in self._sources.items() if source.generator is None}
        counts = {n: c for n, a in arrays.items() if (c := self._count(n, a)) is not None and c > 1}
        for name, count in counts.items():
            first = next(iter(counts))
            if count != counts[first]:
                key, source = self._sources[name]
                rule = f"has {count} samples, {first!r} has {counts[first]}: must be equal, or 1"
                raise data_error(self._spec, key, _file_of(source), rule)
        return arrays

    def _load(self, name: str) -> NDArray[Any]:
        key, source = self._sources[name]
        array = load_array(self._spec, key, source, allow_code=self._allow_code)
        declared, rank = self._spec.inputs[name].dtype, self._rank(name)
        if array.dtype.name != declared:
            raise data_error(
                self._spec, key, _file_of(source), f"has dtype {array.dtype}, must be {declared}"
            )
        if array.ndim not in (rank, rank + 1):
            rule = (
                f"has shape {array.shape}, must have rank {rank} (the input's) or {rank + 1} (samples first)"
            )
            raise data_error(self._spec, key, _file_of(source), rule)
        if not array.size:
            raise data_error(self._spec, key, _file_of(source), f"is empty: its shape is {array.shape}")
        if short := self._short(name, array):
            raise data_error(self._spec, key, _file_of(source), f"has shape {array.shape}, must have {short}")
        return array

    def _short(self, name: str, array: NDArray[Any]) -> str:
        """What an array lacks that would be repeated even in the smallest shape of its input; or nothing."""
        shapes = [profile.shapes[name].min for profile in self._spec.profiles]
        skipped = int(self._alone(name, array))
        batch = None if skipped else self._spec.inputs[name].batch_axis
        for axis, least in enumerate(map(min, zip(*shapes, strict=True))):
            if axis != batch and 1 < array.shape[axis + skipped] < least:
                return f"at least {least} along axis {axis + skipped}"
        return ""

    def _rank(self, name: str) -> int:
        return len(self._spec.profiles[0].shapes[name].opt)

    def _alone(self, name: str, array: NDArray[Any]) -> bool:
        return array.ndim == self._rank(name) + 1

    def _count(self, name: str, array: NDArray[Any]) -> int | None:
        """Samples in `array`; None where nothing counts them."""
        axis = 0 if self._alone(name, array) else self._spec.inputs[name].batch_axis
        return array.shape[axis] if axis is not None and axis < array.ndim else None


def calibration_data(spec: ModelSpec, precision: Precision, *, allow_code: bool = True) -> Feeds:
    """The spec's data, with what the calibration of `precision` has instead."""
    own, prefix = spec.of(precision).calibration.data, ("precision", str(precision), "calibration", "data")
    return Feeds(spec, allow_code, {name: (dotted((*prefix, name)), one) for name, one in own.items()})


def calibration_feeds(
    spec: ModelSpec, precision: Precision, count: int | None = None, *, allow_code: bool = True
) -> Iterator[dict[str, NDArray[Any]]]:
    """Feeds of `count` samples (default: the spec's) at the opt shape of the first profile.

    They come from the end of the data, so that tests, which start at its beginning, see other samples
    wherever there are enough.
    """
    own, feeds = spec.of(precision).calibration, calibration_data(spec, precision, allow_code=allow_code)
    shapes = spec.profiles[0].at("opt")
    wanted = min(count or own.samples, feeds.samples)
    first = feeds.samples - wanted
    for start in range(first, feeds.samples, feeds.rows(shapes)):
        yield feeds.feed(shapes, start)


def labels(spec: ModelSpec, *, allow_code: bool = True) -> NDArray[Any]:
    """The labels of a spec's task, one for each sample, cut to the task's `samples`.

    Raises DataError where there are none, or fewer than samples are asked for.
    """
    if spec.task is None:
        raise data_error(spec, "task", None, "the spec has no labelled data")
    array = load_array(spec, "task.labels", spec.task.labels, allow_code=allow_code)
    wanted = spec.task.samples or Feeds(spec, allow_code).samples
    if array.ndim < 1 or len(array) < wanted:
        rule = f"has shape {array.shape}, must label {wanted} samples along its first axis"
        raise data_error(spec, "task.labels", _file_of(spec.task.labels), rule)
    return array[:wanted]


def _file_of(source: DataSource) -> str:
    return f"{source.npz}:{source.member}" if source.npz else str(source.npy or source.loader)


def _fit(array: NDArray[Any], shape: Shape, batch_axis: int | None, start: int) -> NDArray[Any]:
    """`array` cropped or wrapped to `shape`, from row `start` of the batch axis on."""
    for axis, size in enumerate(shape):
        first = start if axis == batch_axis else 0
        if first or array.shape[axis] != size:
            array = np.take(array, np.arange(first, first + size), axis, mode="wrap")
    # Runtimes take the bytes as they are, whatever order the dtype states.
    return np.array(array, array.dtype.newbyteorder("="), order="C", ndmin=0)


def _generate(name: str, part: InputSpec, source: DataSource, shape: Shape, start: int) -> NDArray[Any]:
    """Generated rows from `start` on, each drawn from its own seed."""
    dtype, axis = numpy_dtype(part.dtype), part.batch_axis if shape else None
    if source.generator == "positions":
        return np.broadcast_to(np.arange((1, *shape)[-1]), shape).astype(dtype)
    if axis is None:
        return _draw(name, source, shape, start).astype(dtype)
    row_shape = shape[:axis] + shape[axis + 1 :]
    rows = [_draw(name, source, row_shape, start + k).astype(dtype) for k in range(shape[axis])]
    return np.stack(rows, axis) if rows else np.zeros(shape, dtype)


def _draw(name: str, source: DataSource, shape: Shape, row: int) -> NDArray[Any]:
    rng = np.random.default_rng([source.seed, zlib.crc32(name.encode("utf-8", "surrogatepass")), row])
    low, high = source.bounds
    if source.generator == "mask":
        return _mask(shape, row)
    if source.generator == "integers":
        return np.asarray(rng.integers(int(low), int(high), shape))
    if source.generator == "uniform":
        return np.asarray(rng.uniform(low, high, shape))
    mean, std = source.mean or 0.0, 1.0 if source.std is None else source.std
    return np.asarray(rng.normal(mean, std, shape))


def _mask(shape: Shape, row: int) -> NDArray[Any]:
    """Ones; in one sample of eight, the first quarter of the last axis is left out, and never all of it."""
    made = np.ones(shape, np.int64)
    if row % PADDED_EVERY == 1 and shape:
        made[..., : shape[-1] // 4] = 0
    return made
