"""What each step of a loop is fed: states, tokens, series, and whatever else the model takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Run, Tensors, shapes_in_words
from harness.data.arrays import numpy_dtype
from harness.data.inputs import Feeds
from harness.errors import DataError
from harness.spec.loop import Fed, LoopSpec
from harness.spec.model_spec import ModelSpec, Profile, Shape

Array = NDArray[Any]
Choose = Callable[[Array], Array]
"""Tokens [batch] for the logits [batch, vocabulary] of the last position."""


@dataclass(frozen=True)
class Step:
    """What one step is fed: the number of the profile that holds its shapes, and the arrays."""

    number: int
    profile: int
    feeds: Tensors


@dataclass(frozen=True)
class Feeding:
    """Makes the feeds of the steps of a spec's loop, the first step being number 1."""

    spec: ModelSpec
    loop: LoopSpec
    feeds: Feeds

    @property
    def label(self) -> str:
        """What errors call the loop."""
        return f"{self.spec.path or self.spec.name}: loop"

    def first(self, sequence: int = 0) -> Step:
        """The first step of a sequence.  Raises DataError."""
        shapes = self._first_shapes
        given: dict[str, Array] = {}
        for fed in self.loop.feed.values():
            dtype = numpy_dtype(self.spec.inputs[fed.to].dtype)
            zeros = self.loop.initial == "zeros"
            own = np.zeros(shapes[fed.to], dtype) if zeros else self.feeds.array(fed.to, shapes, sequence)
            given[fed.to] = own
        if self.loop.tokens is not None:
            given[self.loop.tokens.to] = self.feeds.array(self.loop.tokens.to, shapes, self._sample(sequence))
        return self.step(1, sequence, given)

    def next(self, last: Step, outputs: Tensors, tokens: Array | None, sequence: int = 0) -> Step:
        """The step after `last`, which gave `outputs`, and `tokens` [batch] if the loop has any."""
        try:
            given = self.states(last.feeds, outputs)
        except ValueError as error:
            where = f"{self.label}: step {last.number + 1}"
            raise DataError(f"{where}: what was fed back does not fit: {error}") from error
        if self.loop.tokens is not None and tokens is not None:
            given[self.loop.tokens.to] = self.as_input(tokens)
        return self.step(last.number + 1, sequence, given)

    def states(self, feeds: Tensors, outputs: Tensors) -> dict[str, Array]:
        """The fed inputs of the next step by name."""
        found = {fed.to: after(fed, feeds[fed.to], outputs[name]) for name, fed in self.loop.feed.items()}
        return {n: a.astype(numpy_dtype(self.spec.inputs[n].dtype), copy=False) for n, a in found.items()}

    def as_input(self, tokens: Array) -> Array:
        """Tokens [batch] or [batch, n] as the input takes them: one more position."""
        assert self.loop.tokens is not None
        name = self.loop.tokens.to
        rank = len(self.spec.profiles[0].shapes[name].opt)
        return tokens.reshape(tokens.shape + (1,) * (rank - tokens.ndim)).astype(
            numpy_dtype(self.spec.inputs[name].dtype)
        )

    def step(self, number: int, sequence: int, given: Mapping[str, Array]) -> Step:
        """Step `number`: what is `given`, and all else as data and axes say.  Raises DataError."""
        shapes = self._shapes(number, given)
        feeds = {n: given[n] if n in given else self._other(n, shapes, number, sequence) for n in shapes}
        profile = next((k for k, one in enumerate(self.spec.profiles) if one.holds(shapes)), None)
        if profile is None:
            raise DataError(f"{self.label}: step {number}: no profile holds {shapes_in_words(feeds)}")
        return Step(number, profile, feeds)

    def _shapes(self, number: int, given: Mapping[str, Array]) -> dict[str, Shape]:
        """The shapes of all inputs where those `given` have theirs."""
        known = {name: tuple(array.shape) for name, array in given.items()}
        sizes = self._first_sizes | self._profile.sizes_in(known)
        try:
            return {**self._profile.shapes_at(sizes), **known}
        except ValueError as error:
            raise DataError(f"{self.label}: step {number}: shapes cannot follow: {error}") from error

    def _other(self, name: str, shapes: Mapping[str, Shape], number: int, sequence: int) -> Array:
        """An input that no output becomes.  A mask leaves nothing out: what it left out would move."""
        if self.spec.inputs[name].data.generator == "mask":
            return np.ones(shapes[name], numpy_dtype(self.spec.inputs[name].dtype))
        if name in self.loop.series:
            return self.feeds.array(name, shapes, sequence * self.loop.steps + number - 1)
        return self.feeds.array(name, shapes, self._sample(sequence))

    def _sample(self, sequence: int) -> int:
        return sequence * self.feeds.rows(self._first_shapes)

    @property
    def _profile(self) -> Profile:
        return self.spec.profiles[0]

    @cached_property
    def _first_sizes(self) -> dict[str, int]:
        usual = {name: axis.opt for name, axis in self._profile.ranges.items()}
        return usual | dict(self.loop.start)

    @cached_property
    def _first_shapes(self) -> dict[str, Shape]:
        return self._shapes(1, {})


class FreeRun:
    """A run that feeds its own states, one sample after the other; what it is fed of them is left unread.

    Like any run it takes feeds and gives outputs, so that a task metric can be had of a whole stream.
    """

    def __init__(self, feeding: Feeding, run: Run) -> None:
        self._feeding, self._run = feeding, run
        self._states: Tensors = {fed.to: feeding.first().feeds[fed.to] for fed in feeding.loop.feed.values()}

    def __call__(self, feeds: Tensors) -> Tensors:
        """Outputs for the next sample.  Raises RunError."""
        given = {**feeds, **self._states}
        outputs = self._run(given)
        self._states = self._feeding.states(given, outputs)
        return outputs


def streamed(spec: ModelSpec, feeds: Feeds, run: Run) -> Run:
    """`run` over a stream where the spec's loop takes one sample a step; as it is for any other."""
    if spec.loop is None or not spec.loop.series:
        return run
    return FreeRun(Feeding(spec, spec.loop, feeds), run)


def after(fed: Fed, state: Array, output: Array) -> Array:
    """The next state: the output itself, or appended to the state, or the last of either."""
    if fed.grow is not None:
        return np.concatenate([state, output], fed.grow)
    if fed.roll is not None:
        size = state.shape[fed.roll]
        return _last(np.concatenate([state, output], fed.roll), fed.roll, size)
    return output if fed.window is None else _last(output, fed.window.axis, fed.window.size)


def _last(array: Array, axis: int, size: int) -> Array:
    """At most the last `size` entries along `axis`."""
    skipped = max(0, array.shape[axis] - size)
    return np.ascontiguousarray(array[(slice(None),) * axis + (slice(skipped, None),)])
