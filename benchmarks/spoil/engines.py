"""Engines over an engine: one that remembers its answers, and one that spoils them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Engine, Tensors
from harness.data.inputs import Feeds
from harness.engines.reference import Floor, Reference
from harness.spec.model_spec import Shape

Array = NDArray[Any]
Outputs = dict[str, Array]


def digest(feeds: Tensors) -> str:
    """BLAKE2, in hex, of names, shapes and values."""
    found = hashlib.blake2b(digest_size=16)
    for name, array in sorted(feeds.items()):
        found.update(f"{name} {array.shape}".encode())
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()


class Wrapped:
    """An engine in front of another, which somebody else closes."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.inputs, self.outputs = engine, engine.inputs, engine.outputs

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Wrapped:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Kept(Wrapped):
    """An engine that runs each set of feeds once; whoever changes an answer copies it first."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._known: dict[tuple[int, str], Outputs] = {}

    def run(self, feeds: Tensors, profile: int = 0) -> Outputs:
        """Outputs by name."""
        key = profile, digest(feeds)
        if key not in self._known:
            self._known[key] = self.engine.run(feeds, profile)
        return dict(self._known[key])


@dataclass
class Call:
    """One run of a spoilt engine: what the right one answers, and where the fault is in it.

    `target`: the output that is spoilt; `at`: a number in [0, 1) from which indices follow, the same for all
    runs; `number` counts runs since the engine was loaded; `before` and `shapes_before`: right answers and
    shapes of the run before, empty in the first; `ranges`: the shapes that the profile allows.
    """

    outputs: Outputs
    feeds: Tensors
    target: str
    at: float
    number: int
    before: Mapping[str, Array]
    shapes_before: Mapping[str, Shape]
    ranges: Mapping[str, Any]

    @property
    def value(self) -> Array:
        """The output that is spoilt."""
        return self.outputs[self.target]

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of the feeds."""
        return {name: array.shape for name, array in self.feeds.items()}

    def pick(self, size: int) -> int:
        """An index below `size`."""
        return int(self.at * size)

    def rng(self) -> np.random.Generator:
        """Random numbers that depend on the feeds alone."""
        return np.random.default_rng([int(self.at * 2**31), int(digest(self.feeds)[:8], 16)])


Spoiler = Callable[[Call], Outputs]


@dataclass
class Spoilt:
    """An engine whose answers `spoiler` changes; a new one has forgotten every earlier run."""

    engine: Engine
    spoiler: Spoiler
    target: str
    at: float
    profiles: tuple[Mapping[str, Any], ...]
    _number: int = 0
    _before: Mapping[str, Array] = field(default_factory=dict)
    _shapes: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def inputs(self) -> Any:
        """The inputs of the right engine."""
        return self.engine.inputs

    @property
    def outputs(self) -> Any:
        """The outputs of the right engine."""
        return self.engine.outputs

    def run(self, feeds: Tensors, profile: int = 0) -> Outputs:
        """Spoilt outputs by name."""
        right = self.engine.run(feeds, profile)
        ranges = self.profiles[min(profile, len(self.profiles) - 1)]
        call = Call(
            dict(right), feeds, self.target, self.at, self._number, self._before, self._shapes, ranges
        )
        self._number, self._before, self._shapes = self._number + 1, right, call.shapes
        return self.spoiler(call)

    def fresh(self) -> Spoilt:
        """The same engine, loaded again."""
        return Spoilt(self.engine, self.spoiler, self.target, self.at, self.profiles)

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Spoilt:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class KeptFeeds(Feeds):
    """Feeds that are made once for each shape and start."""

    def feed(self, shapes: Mapping[str, Shape], start: int = 0) -> dict[str, Array]:
        """One array for every input."""
        known = self.__dict__.setdefault("_known", {})
        key = start, tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))
        if key not in known:
            known[key] = super().feed(shapes, start)
        return dict(known[key])


class KeptReference:
    """A reference that is asked once for each set of feeds."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._outputs: dict[str, Outputs] = {}
        self._floors: dict[str, dict[str, Floor]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    def outputs(self, feeds: Tensors) -> Outputs:
        """Outputs by name."""
        key = digest(feeds)
        if key not in self._outputs:
            self._outputs[key] = self._reference.outputs(feeds)
        return self._outputs[key]

    def floor(self, feeds: Tensors) -> dict[str, Floor]:
        """The reference's own error by output."""
        key = digest(feeds)
        if key not in self._floors:
            self._floors[key] = self._reference.floor(feeds)
        return self._floors[key]
