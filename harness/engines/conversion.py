"""A model's file run beside what it was normalised to: a conversion that moves numbers is refused.

Both run on ONNX Runtime's CPU provider, unoptimised, in a process of their own, at every bound of every
profile.  The file is opened as it is: nothing of the conversion is trusted, reading included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.base import Engine, Tensors
from harness.engines.reference import mre
from harness.errors import ModelError, RunError, shorten
from harness.graph import file as onnx_file
from harness.isolation.parent import isolated, memory_limit
from harness.lowering.passes.normalise import OPSET
from harness.paths import scratch
from harness.spec.profiles import Profile
from harness.storage.cache import JSON, Cache

MOVED_MRE = 1e-6
"""Mean relative error above which an output was moved; FP32's own unit roundoff is 6e-8."""

MOVED_ELEMENT = 1e-3
"""|difference| / max(|original|, mean|original|) above which one element was moved."""

NOISE = 10
"""How many times further than the file's own readings lie from each other, at least, where those differ."""

TIMEOUT_S = 600.0
Level = Literal["none", "all"]


@dataclass(frozen=True)
class Conversion:
    """What running both showed: at how many sets of shapes they agree, in how many seconds.

    `moved`: the output that differs, and where.  `unchecked`: why nothing is known.  Empty where they agree.
    """

    points: int
    seconds: float
    moved: str = ""
    unchecked: str = ""


@dataclass(frozen=True)
class Pair:
    """A model's file and what it became, by the outputs that are judged; `converted` makes it."""

    name: str
    file: Path
    converted: Callable[[], ir.Model]
    outputs: tuple[str, ...]


def conversion_of(pair: Pair, feeds: Sequence[Tensors], cache: Cache, key: Mapping[str, JSON]) -> Conversion:
    """How the conversion fared on `feeds`, kept in the cache.  Raises ModelError where it moves numbers."""
    label = f"{pair.name} conversion"
    entry = cache.get_or_make("conversion", key, lambda _: asdict(_tried(pair, feeds)), label=label)
    found = Conversion(**entry.manifest)
    if found.moved:
        raise ModelError(
            f"{pair.file}: normalised for lowering, it computes other numbers than as it is: {found.moved}: "
            f"export it at opset {OPSET} or later"
        )
    return found


def bounds(profiles: Iterable[Profile]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes by input at the min, opt and max of every profile, each once."""
    seen = list[dict[str, tuple[int, ...]]]()
    for profile in profiles:
        for bound in ("min", "opt", "max"):
            shapes = {name: tuple(getattr(part, bound)) for name, part in profile.shapes.items()}
            if shapes not in seen:
                seen.append(shapes)
                yield shapes


def _tried(pair: Pair, feeds: Sequence[Tensors]) -> Conversion:
    started = time.monotonic()
    with scratch() as folder:
        path = folder / "model.onnx"
        onnx_file.write(pair.converted(), path)
        arguments = (pair.file, path, list(feeds), pair.outputs)
        try:
            moved, unchecked = isolated(
                compared, *arguments, timeout_s=TIMEOUT_S, memory_bytes=memory_limit(), reuse=True
            )
        except RunError as error:
            moved, unchecked = "", str(error)
    return Conversion(len(feeds), time.monotonic() - started, moved, unchecked)


def compared(
    file: Path, converted: Path, feeds: Sequence[Tensors], outputs: Sequence[str]
) -> tuple[str, str]:
    """What was moved, and why it is not known whether anything was; both empty where the files agree."""
    try:
        original, made = _opened(file, outputs), _opened(converted, outputs)
        for feed in feeds:
            was, now = original.run(feed), made.run(feed)
            moved = {name: shift(was[name], now[name]) for name in outputs}
            if any(size > 1 for size in moved.values()):
                return _judged(moved, _own(file, was, feed), feed)
    except RunError as error:
        return "", str(error)
    return "", ""


def shift(was: NDArray[Any], now: NDArray[Any]) -> float:
    """How far `now` is from `was`, as a multiple of what counts as moved; inf where they do not compare."""
    if was.shape != now.shape or was.dtype != now.dtype:
        return math.inf
    if was.dtype.kind != "f":
        return 0.0 if np.array_equal(was, now) else math.inf
    finite = np.isfinite(was)
    if not np.array_equal(was[~finite], now[~finite], equal_nan=True) or not np.isfinite(now[finite]).all():
        return math.inf
    old, new = was[finite].astype(np.float64), now[finite].astype(np.float64)
    if not old.size:
        return 0.0
    mean = np.abs(old).mean()
    local = np.abs(new - old) / np.maximum(np.maximum(np.abs(old), mean), np.finfo(np.float32).tiny)
    return max(mre(new, old) / MOVED_MRE, float(local.max()) / MOVED_ELEMENT)


def _opened(file: Path, outputs: Sequence[str], level: Level = "none") -> Engine:
    """The file as it is; where the runtime does not take its names or order, as `onnx_file` reads it."""
    from harness.backends.onnxruntime.backend import SessionSettings, open_model

    settings = SessionSettings(level=level)
    try:
        engine = open_model(file, settings=settings)
    except RunError:
        return open_model(onnx_file.read(file), outputs, settings=settings)
    known = {info.name for info in engine.outputs}
    return engine if known >= set(outputs) else open_model(onnx_file.read(file), outputs, settings=settings)


def _own(file: Path, was: Tensors, feed: Tensors) -> dict[str, float]:
    """How far two more readings of the file, one of them optimised, lie from the first, by output."""
    again: list[Tensors] = []
    for level in ("none", "all"):
        with _opened(file, list(was), level) as engine:
            again.append(engine.run(feed))
    return {name: max(shift(was[name], other[name]) for other in again) for name in was}


def _judged(moved: Mapping[str, float], own: Mapping[str, float], feed: Tensors) -> tuple[str, str]:
    if noisy := [name for name in moved if own[name] > 1]:
        return "", f"output {shorten(noisy[0])} of the file itself is another each time"
    for name, size in moved.items():
        if size > max(1.0, NOISE * own[name]):
            shapes = ", ".join(f"{shorten(key)} {list(array.shape)}" for key, array in feed.items())
            return f"output {shorten(name)} at {shapes}", ""
    return "", ""
