"""Tokens that both sides choose, and whether a difference is an error or a tie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

Array = NDArray[Any]
TIE_SIDES = 2.0
"""A flip needs the error of two logits: of the one that rose and of the one that fell."""


@dataclass(frozen=True)
class Flip:
    """A token that the engine chose otherwise, in one row of the batch.

    `margin`: by how much the reference prefers its own; `tie`: that is within what the precision may err.
    """

    step: int
    row: int
    got: int
    expected: int
    margin: float
    tie: bool


def argmax(logits: Array) -> Array:
    """The token with the largest logit, [batch]."""
    return np.asarray(np.argmax(logits.astype(np.float64), axis=-1))


def last_position(logits: Array) -> Array:
    """Logits [batch, vocabulary] of the last position of [batch, sequence, vocabulary]."""
    return logits[:, -1] if logits.ndim == 3 else np.atleast_2d(logits)


def chosen(choose: Callable[[Array], Array], logits: Array, where: str) -> Array:
    """The tokens [batch] that `choose` makes of the logits of a step.  Raises DataError."""
    last = last_position(logits)
    tokens = np.asarray(choose(last))
    if tokens.shape != (len(last),) or tokens.dtype.kind not in "iu":
        got = f"{tokens.dtype.name} of shape {tokens.shape}"
        raise DataError(f"{where}: loop.tokens.choose gave {got}, must give {len(last)} whole numbers")
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < last.shape[-1]):
        raise DataError(f"{where}: loop.tokens.choose gave a token outside 0 to {last.shape[-1] - 1}")
    return tokens


def flips(step: int, got: Array, expected: Array, reference: Array, limit: float) -> list[Flip]:
    """The tokens [batch] that differ; `reference`: its logits; `limit`: the precision's."""
    logits = last_position(reference).astype(np.float64)
    found = []
    for row in np.flatnonzero(got != expected):
        margin = float(logits[row, expected[row]] - logits[row, got[row]])
        own = TIE_SIDES * limit * float(np.abs(logits[row]).mean())
        found.append(Flip(step, int(row), int(got[row]), int(expected[row]), margin, abs(margin) <= own))
    return found
