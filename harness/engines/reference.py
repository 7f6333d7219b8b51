"""What engines are judged by: outputs of ONNX Runtime on the CPU, kept on disk, with the error they have.

The reference is the normalised FP32 model, unoptimised.  Its floor is how far two other readings of the same
model lie from it: the optimised session, and a float64 evaluation where the operators allow one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.base import Engine, Tensors
from harness.errors import DataError, LoweringError, RunError
from harness.lowering.passes.double import to_double
from harness.storage.cache import JSON, Cache, Entry

SMALL_BYTES = 1 << 16
PLAUSIBLE = 16.0
"""How many times farther from float64 than the reference a session may lie that differs by rounding."""
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Floor:
    """How far other readings of the FP32 model lie from the reference in one output, as mean relative errors.

    `optimised`: ONNX Runtime's optimised session.  `float64`: the reference against float64; None where it
    cannot be evaluated, and `reason`, at the first output, says why.
    """

    optimised: float
    float64: float | None
    reason: str = ""

    @property
    def mre(self) -> float:
        """The larger of what was measured."""
        return max(self.optimised, self.float64 or 0.0)


@dataclass(frozen=True)
class Source:
    """A model whose outputs are wanted: `key` is everything they depend on besides the feeds.

    `model` makes it, and is called only when something must be run; `names` are the outputs to return.
    """

    name: str
    key: Mapping[str, JSON]
    model: Callable[[], ir.Model]
    names: tuple[str, ...]
    level: str = "none"


class CachedOutputs:
    """Outputs of a model on ONNX Runtime's CPU provider; each set of feeds is run once and kept on disk.

    Sessions are opened when something must be run, and stay open until `close`.
    """

    def __init__(self, source: Source, cache: Cache) -> None:
        self._source, self._cache = source, cache
        self._opened: dict[str, Engine] = {}

    def outputs(self, feeds: Tensors) -> Arrays:
        """Outputs by name, mapped from disk.  Raises RunError."""
        return _load(self.entry(feeds))

    def entry(self, feeds: Tensors) -> Entry:
        """Where the outputs for `feeds` are kept, and why they were computed, or "hit"."""

        def make(folder: Path) -> Mapping[str, JSON]:
            return _save(folder, self._engine(self._source.level).run(feeds))

        return self._cache.get_or_make("outputs", self._key(feeds), make, label=self._label(feeds))

    def close(self) -> None:
        """Free the sessions that are open."""
        for engine in self._opened.values():
            engine.close()
        self._opened.clear()

    def _key(self, feeds: Tensors) -> dict[str, JSON]:
        return {**self._source.key, "outputs": list(self._source.names), "feeds": feeds_digest(feeds)}

    def _label(self, feeds: Tensors) -> str:
        return f"{self._source.name} {[(name, array.shape) for name, array in sorted(feeds.items())]}"

    def _engine(self, level: str) -> Engine:
        if level not in self._opened:
            self._opened[level] = _open(self._source.model(), self._source.names, level)
        return self._opened[level]


class Reference(CachedOutputs):
    """The FP32 reference of a model and its floor."""

    def outputs(self, feeds: Tensors) -> Arrays:
        """Outputs by name, mapped from disk.  Raises RunError, DataError where nothing of one is finite."""
        found = super().outputs(feeds)
        _require_values(self._source.name, found, feeds)
        return found

    def floor(self, feeds: Tensors) -> dict[str, Floor]:
        """The floor of each output for `feeds`, kept on disk as well.  Raises RunError, DataError."""

        def make(folder: Path) -> Mapping[str, JSON]:  # noqa: ARG001 - all there is goes into the manifest
            return {name: asdict(floor) for name, floor in self._measure(feeds).items()}

        key = {**self._key(feeds), "what": "floor"}
        entry = self._cache.get_or_make("floor", key, make, label=f"floor of {self._label(feeds)}")
        return {name: Floor(**part) for name, part in entry.manifest.items()}

    def readings(self, feeds: Tensors) -> tuple[Arrays, ...]:
        """Outputs of other readings of the same model: the optimised session, and float64 where it can be.

        An output of the optimised session that differs by more than rounding is left out.  Raises RunError.
        """
        reference, optimised = self.outputs(feeds), self._engine("all").run(feeds)
        exact, _ = self._float64(feeds)
        known = exact or {}
        usable = {n: a for n, a in optimised.items() if plausible(a, reference[n], known.get(n))}
        return (usable, exact) if exact else (usable,)

    def _measure(self, feeds: Tensors) -> dict[str, Floor]:
        reference = self.outputs(feeds)
        optimised = self._engine("all").run(feeds)
        exact, reason = self._float64(feeds)
        said = dict.fromkeys(list(reference)[:1], reason)
        return {
            name: Floor(
                mre(optimised[name], expected),
                None if exact is None else mre(expected, exact[name]),
                said.get(name, ""),
            )
            for name, expected in reference.items()
        }

    def _float64(self, feeds: Tensors) -> tuple[Arrays | None, str]:
        """Outputs in float64; None and the reason where there are none."""
        engine = self._double
        if isinstance(engine, str):
            return None, engine
        try:
            return engine.run({name: _wide(array) for name, array in feeds.items()}), ""
        except RunError as error:
            engine.close()
            self.__dict__["_double"] = f"not evaluated in float64: {error}"
            return self._float64(feeds)

    @cached_property
    def _double(self) -> Engine | str:
        """The float64 engine, or why there is none."""
        try:
            return _open(to_double(self._source.model()), self._source.names, "none", quiet=True)
        except (LoweringError, RunError) as error:
            return f"not evaluated in float64: {error}"

    def close(self) -> None:
        """Free the sessions that are open."""
        super().close()
        self.__dict__.pop("_double", None)


def mre(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """sum|actual - expected| / sum|expected| in float64; for integers and bools the share unequal.

    Of elements that are finite in both; infinite where NaN or infinities lie elsewhere.
    """
    if actual.shape != expected.shape:
        return float("inf")
    if not _floating(actual):
        return float(np.mean(actual != expected)) if expected.size else 0.0
    ours, wide = actual.astype(np.float64), expected.astype(np.float64)
    known = np.isfinite(wide)
    if not np.array_equal(ours[~known], wide[~known], equal_nan=True) or not np.isfinite(ours[known]).all():
        return float("inf")
    difference, scale = float(np.abs(ours[known] - wide[known]).sum()), float(np.abs(wide[known]).sum())
    return difference / scale if scale else float("inf") if difference else 0.0


def plausible(optimised: NDArray[Any], expected: NDArray[Any], exact: NDArray[Any] | None) -> bool:
    """Whether `optimised` differs from the reference by rounding alone, as far as `exact` (float64) tells."""
    if exact is None or not _floating(expected) or not optimised.shape == expected.shape == exact.shape:
        return True
    return mre(optimised, exact) <= PLAUSIBLE * max(mre(expected, exact), 2.0**-24)


def feeds_digest(feeds: Tensors) -> str:
    """SHA-256, in hex, of names, dtypes, shapes and values."""
    found = hashlib.sha256()
    for name, array in sorted(feeds.items()):
        found.update(f"{name!r} {array.dtype.name} {array.shape}\n".encode())
        whole = np.ascontiguousarray(array)
        found.update(repr(array.tolist()).encode() if array.dtype.hasobject else whole.view(np.uint8).data)
    return found.hexdigest()


def _open(model: ir.Model, names: Sequence[str], level: str, *, quiet: bool = False) -> Engine:
    from harness.backends.onnxruntime.backend import SessionSettings, open_model

    return open_model(model, names, settings=SessionSettings(level=level, quiet=quiet))


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float64) if _floating(array) else array


def _floating(array: NDArray[Any]) -> bool:
    return bool(array.dtype.kind == "f" or array.dtype.name == "bfloat16")


def _save(folder: Path, outputs: Tensors) -> Mapping[str, JSON]:
    """One `.npy` file each, so that they can be mapped; names may be any text, so the manifest has them."""
    for index, array in enumerate(outputs.values()):
        plain = array.astype(str) if array.dtype.hasobject else array
        bits = plain.view(np.uint16) if plain.dtype.name == "bfloat16" else plain
        np.save(folder / f"{index}.npy", bits, allow_pickle=False)
    return {"outputs": [[name, array.dtype.name] for name, array in outputs.items()]}


def _load(entry: Entry) -> Arrays:
    import ml_dtypes

    found: Arrays = {}
    for index, (name, dtype) in enumerate(entry.manifest["outputs"]):
        array = _map(entry.folder / f"{index}.npy")
        found[name] = array.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else array
    return found


def _map(path: Path) -> NDArray[Any]:
    """The array in `path`, mapped where it is worth it; an empty one cannot be."""
    mode: Literal["r"] | None = "r" if path.stat().st_size > SMALL_BYTES else None
    array: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    return array


def _require_values(name: str, outputs: Tensors, feeds: Tensors) -> None:
    """Raise DataError for an output without a finite element; single ones are places to compare."""
    for output, array in outputs.items():
        if not array.size or not _floating(array) or _any_finite(array):
            continue
        nan = int(np.isnan(array.astype(np.float64)).sum())
        raise DataError(
            f"{name}: output {output!r} has {nan} NaN and {array.size - nan} infinite of {array.size} "
            f"elements in FP32: nothing to compare with at {_shapes(feeds)}; check the input data, "
            f"or set outputs.{output}.compare = 'ignore'"
        )


def _shapes(feeds: Tensors) -> str:
    return ", ".join(f"{n}={'x'.join(map(str, array.shape)) or 'scalar'}" for n, array in feeds.items())


def _any_finite(array: NDArray[Any]) -> bool:
    """Whether any element is finite, looked for block by block so that mapped arrays stay on disk."""
    flat = array.reshape(-1)
    blocks = (flat[start : start + (1 << 20)] for start in range(0, flat.size, 1 << 20))
    return any(bool(np.isfinite(block).any()) for block in blocks)
