"""Runs the FP32 model over calibration samples and keeps a histogram of each tensor, in bounded memory.

Tensors are fetched in groups that fit the budget, one pass over the samples for each group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import onnx_ir as ir

from harness import processors
from harness.backends.runner import Opener, Tensors
from harness.calibration.histogram import Histogram
from harness.calibration.sizes import measure, values_of
from harness.errors import DataError, LoweringError

Progress = Callable[[int], None]
"""Told after each run how many samples the current pass has seen."""
LIVE_COPIES = 2
"""A runtime holds its own copy of a fetched tensor while it hands over the caller's."""
THREADS = 4


@dataclass(frozen=True)
class Collected:
    """Histograms by tensor name, over `samples` feeds fetched in `groups` passes."""

    histograms: Mapping[str, Histogram]
    samples: int
    groups: int


def collect(
    model: ir.Model,
    feeds: Iterable[Tensors],
    tensors: Sequence[str],
    opener: Opener,
    memory_bytes: int,
    progress: Progress | None = None,
) -> Collected:
    """Histograms of the magnitudes of `tensors` over all of `feeds`, which must iterate afresh each time.

    Fetched tensors stay within `memory_bytes`, or one tensor's size where that is larger.
    Raises DataError without a sample, LoweringError for a tensor that the main graph does not have.
    """
    _require(model, tensors)
    fed = [name for name in tensors if name in {value.name for value in model.graph.inputs}]
    inner = [name for name in tensors if name not in fed]
    sizes = measure(model, feeds, inner, opener)
    groups = group(sizes, memory_bytes // LIVE_COPIES) or [()]
    histograms = {name: Histogram() for name in tensors}
    samples = 0
    with ThreadPoolExecutor(min(THREADS, processors.usable())) as pool:
        for k, names in enumerate(groups):
            wanted = (*names, *fed) if k == 0 else names
            for samples, found in enumerate(_runs(model, feeds, names, opener), start=1):
                list(pool.map(lambda name, seen=found: histograms[name].add(seen[name]), wanted))
                if progress is not None:
                    progress(samples)
    if samples == 0:
        raise DataError("calibration: no samples; at least one is needed")
    return Collected(histograms, samples, len(groups))


def _runs(
    model: ir.Model, feeds: Iterable[Tensors], names: Sequence[str], opener: Opener
) -> Iterator[Tensors]:
    """The named tensors and the feeds themselves, sample by sample."""
    if not names:
        yield from feeds
        return
    with opener(model, names) as runner:
        for feed in feeds:
            yield {**feed, **runner.run(feed)}


def group(sizes: Mapping[str, int], budget: int) -> list[tuple[str, ...]]:
    """Runs of tensors, in order, that fit `budget` bytes together; one larger than that is alone."""
    groups: list[list[str]] = []
    free = -1
    for name, size in sizes.items():
        if size > free:
            groups.append([])
            free = budget
        groups[-1].append(name)
        free -= size
    return [tuple(names) for names in groups]


def _require(model: ir.Model, tensors: Sequence[str]) -> None:
    known = values_of(model.graph)
    missing = [name for name in tensors if name not in known]
    if missing:
        raise LoweringError(f"calibration: tensor {missing[0]!r} is not in the main graph")
