"""Properties that a right engine has whatever it computes: checks that need no reference.

    identical-rows  one sample repeated in a batch gives one row repeated
    batch-rows      a batch equals its rows run alone, at several batch sizes
    permutation     permuting the rows of a batch permutes its outputs
    context-reuse   an engine that has run other shapes, in either order, answers as a fresh one; the shapes
                    lie off opt on every dynamic axis
    static          the engine built for one shape alone answers as the dynamic one
    rebuild         a second build answers as the first
    reload          the engine loaded again answers as before

Two runs agree when one passes as the other's engine at the precision's tolerance: an engine may round
differently at another batch size, it may not compute something else.  Whether they were identical is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from harness.backends.base import Engine, Tensors
from harness.comparison.compare import compare_outputs
from harness.comparison.explain import explain, problems
from harness.comparison.result import OutputsComparison
from harness.data.batches import Batches, InapplicableError, Outputs, take_rows
from harness.data.inputs import Feeds
from harness.data.shapes import at_position
from harness.spec.model_spec import ModelSpec, Shape
from harness.spec.terms import Terms

Shapes = Mapping[str, Shape]
OF_ROWS = frozenset({"identical-rows", "batch-rows", "permutation"})
"""Properties of models whose rows are computed each for itself."""

DECLARE = (
    "if the model itself mixes rows, say so at the top of its spec: "
    'exceptions = [{{ property = "{}", reason = "..." }}]'
)
DECLARE_OTHER = (
    "if this does not hold for the model itself, say so at the top of its spec: "
    'exceptions = [{{ property = "{}", reason = "..." }}]'
)


COUPLED = (
    "output '{name}' grows with the batch along axes {axes}: the model relates the samples of a batch to "
    "each other, as image-text scores do. Say so at the top of its spec: exceptions = [{exceptions}]"
)


@dataclass(frozen=True)
class Trial:
    """One engine on one profile, and how to come by others that should answer alike.

    `fresh` loads the same engine again, `rebuilt` builds it again, `static` builds it for given shapes.
    """

    spec: ModelSpec
    terms: Terms
    feeds: Feeds
    profile: int
    engine: Engine
    fresh: Callable[[], AbstractContextManager[Engine]]
    rebuilt: Callable[[], AbstractContextManager[Engine]]
    static: Callable[[Shapes], AbstractContextManager[Engine]]

    @cached_property
    def batches(self) -> Batches:
        """The batches that the profile allows."""
        return Batches(self.spec, self.spec.profiles[self.profile], self.feeds)

    @cached_property
    def sizes(self) -> Sequence[Shapes]:
        """opt, then sizes off it on every dynamic axis, then min and max; each once."""
        profile = self.spec.profiles[self.profile]
        found: list[Shapes] = [profile.at("opt"), *(at_position(profile, t) for t in (0.15, 0.55, 0.85))]
        found += [profile.at("min"), profile.at("max")]
        return [shapes for k, shapes in enumerate(found) if shapes not in found[:k]]

    @cached_property
    def coupled(self) -> Mapping[str, tuple[int, ...]]:
        """The outputs that relate the samples of a batch to each other, as their shapes tell."""
        rows = self.batches.usual
        return self.batches.coupled(self.run(self.batches.feed(rows)), rows, self.run)

    def run(self, feed: Tensors, engine: Engine | None = None) -> Outputs:
        """Outputs of `engine` (default: the one under test) on the profile."""
        return (engine or self.engine).run(feed, self.profile)


@dataclass(frozen=True)
class Pair:
    """Two sets of outputs that must agree, and what was run."""

    where: str
    actual: Outputs
    expected: Outputs


@dataclass(frozen=True)
class Outcome:
    """What one property gave on one profile; `reason` says why it does not apply where nothing was run."""

    name: str
    found: tuple[tuple[str, OutputsComparison], ...] = ()
    identical: bool = True
    reason: str = ""
    coupled: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every pair agreed."""
        return all(one.quality for _, one in self.found)

    @property
    def mre(self) -> float:
        """The largest error between two runs that must agree; NaN counts as infinite."""
        errors = [one.mre for _, one in self.found]
        return max((np.inf if np.isnan(e) else e for e in errors), default=0.0)

    def explain(self, label: str, reproduce: str) -> str:
        """The first pair that disagrees in full, the others in a line each."""
        failed = [(where, one) for where, one in self.found if not one.quality]
        where, first = failed[0]
        context = [f"{place}: {problems(one)[0]}" for place, one in failed[1:4]]
        if self.coupled:
            context += [_declared(name, axes) for name, axes in self.coupled.items()]
        elif self.name in OF_ROWS:
            context.append(DECLARE.format(self.name))
        elif self.name not in PROPERTIES:
            context.append(DECLARE_OTHER.format(self.name))
        return explain(first, f"{label} {self.name}: {where}", context=context, reproduce=reproduce)


def check(name: str, trial: Trial) -> Outcome:
    """Check one property of PROPERTIES.  Raises RunError."""
    found = outcome_of(name, PROPERTIES[name](trial), trial.terms)
    return replace(found, coupled=trial.coupled) if name in OF_ROWS and not found.holds else found


def outcome_of(name: str, pairs: Iterator[Pair], terms: Terms) -> Outcome:
    """Compare the pairs that a property makes as they come.  Raises RunError."""
    found, identical = [], True
    try:
        for pair in pairs:
            identical = identical and _identical(pair)
            found.append((pair.where, compare_outputs(pair.actual, pair.expected, terms)))
    except InapplicableError as why:
        return Outcome(name, reason=str(why))
    return Outcome(name, tuple(found), identical)


def _declared(output: str, axes: Sequence[int]) -> str:
    """The proposal to except a model whose `output` relates the samples of a batch."""
    reason = f"output '{output}' relates the samples of a batch to each other"
    listed = ", ".join(f'{{ property = "{name}", reason = "{reason}" }}' for name in sorted(OF_ROWS))
    return COUPLED.format(name=output, axes=" and ".join(map(str, axes)), exceptions=listed)


def identical_rows(trial: Trial) -> Iterator[Pair]:
    """One sample repeated: every row of the outputs is the first row."""
    batches, rows = trial.batches, trial.batches.usual
    outputs = trial.run(batches.take(batches.feed(rows), [0] * rows))
    axes = batches.output_axes(outputs, rows, trial.run)
    yield Pair(f"{rows} equal rows", _only(outputs, axes), take_rows(outputs, axes, [0] * rows))


def batch_rows(trial: Trial) -> Iterator[Pair]:
    """A batch and its rows, run alone (or in chunks of the smallest batch that the profile allows)."""
    batches, step = trial.batches, trial.batches.bounds[0]
    for rows in batches.several:
        feed = batches.feed(rows)
        outputs = trial.run(feed)
        axes = batches.output_axes(outputs, rows, trial.run)
        parts = [trial.run(batches.take(feed, range(k, k + step))) for k in range(0, rows, step)]
        alone = {n: np.concatenate([part[n] for part in parts], axis) for n, axis in axes.items()}
        yield Pair(f"batch of {rows} against {rows // step} of {step}", _only(outputs, axes), alone)


def permutation(trial: Trial) -> Iterator[Pair]:
    """A batch in another order gives the outputs in that order."""
    batches, rows = trial.batches, trial.batches.usual
    feed, order = batches.feed(rows), [*range(1, rows), 0]
    outputs, permuted = trial.run(feed), trial.run(batches.take(feed, order))
    axes = batches.output_axes(outputs, rows, trial.run)
    yield Pair(f"rows in the order {order}", _only(permuted, axes), take_rows(outputs, axes, order))


def context_reuse(trial: Trial) -> Iterator[Pair]:
    """One engine run through all shapes forth and back, each answer against a freshly loaded engine's."""
    feeds = [(shapes, trial.feeds.feed(shapes)) for shapes in trial.sizes]
    if len(feeds) < 2:
        raise InapplicableError("the profile has one shape only")
    fresh = []
    for _, feed in feeds:
        with trial.fresh() as engine:
            fresh.append(trial.run(feed, engine))
    order = [*range(len(feeds)), *reversed(range(len(feeds) - 1))]
    for before, k in zip([None, *order], order, strict=False):
        after = "first" if before is None else f"after {_text(feeds[before][0])}"
        yield Pair(f"{_text(feeds[k][0])} {after}, against a fresh engine", trial.run(feeds[k][1]), fresh[k])


def static_engine(trial: Trial) -> Iterator[Pair]:
    """The dynamic engine against one built for a single shape that lies off opt."""
    sizes = trial.sizes
    if len(sizes) < 2:
        raise InapplicableError("the profile has one shape only: the engine is static already")
    for shapes in (sizes[1], sizes[-1]):
        feed = trial.feeds.feed(shapes)
        with trial.static(shapes) as engine:
            expected = engine.run(feed, 0)
        yield Pair(f"dynamic against static at {_text(shapes)}", trial.run(feed), expected)


def rebuild(trial: Trial) -> Iterator[Pair]:
    """The engine against a second build of the same spec."""
    yield from _again(trial, trial.rebuilt, "a second build")


def reload(trial: Trial) -> Iterator[Pair]:
    """The engine against itself, loaded again from its files."""
    yield from _again(trial, trial.fresh, "the engine loaded again")


PROPERTIES: Mapping[str, Callable[[Trial], Iterator[Pair]]] = {
    "identical-rows": identical_rows,
    "batch-rows": batch_rows,
    "permutation": permutation,
    "context-reuse": context_reuse,
    "static": static_engine,
    "rebuild": rebuild,
    "reload": reload,
}


def _again(trial: Trial, other: Callable[[], AbstractContextManager[Engine]], what: str) -> Iterator[Pair]:
    with other() as engine:
        for shapes in trial.sizes[:2]:
            feed = trial.feeds.feed(shapes)
            yield Pair(f"{what} at {_text(shapes)}", trial.run(feed, engine), trial.run(feed))


def _only(outputs: Outputs, axes: Mapping[str, int]) -> Outputs:
    return {n: outputs[n] for n in axes}


def _identical(pair: Pair) -> bool:
    return pair.actual.keys() == pair.expected.keys() and all(
        a.shape == pair.expected[n].shape and a.tobytes() == pair.expected[n].tobytes()
        for n, a in pair.actual.items()
    )


def _text(shapes: Shapes) -> str:
    return ", ".join(f"{n}={'x'.join(map(str, s)) or 'scalar'}" for n, s in shapes.items())
