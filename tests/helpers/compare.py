"""Tensors to compare, and what can be done to one of them so that no comparison may pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def features(shape: tuple[int, ...] = (16, 32), seed: int = 0) -> Array:
    """Normal values, as logits have."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _at(array: Array, index: Any, value: float) -> Array:
    changed = array.copy()
    changed[index] = value
    return changed


def _swapped(array: Array) -> Array:
    changed = array.copy()
    changed[[2, 5]] = changed[[5, 2]]
    return changed


MUTATIONS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "nan": (lambda a: _at(a, (3, 4), np.nan), "nan"),
    "infinite": (lambda a: _at(a, (3, 4), np.inf), "+inf"),
    "negative infinite": (lambda a: _at(a, (3, 4), -np.inf), "-inf"),
    "all zero": (np.zeros_like, "mre"),
    "all NaN": (lambda a: np.full_like(a, np.nan), "nan"),
    "scaled by 2": (lambda a: a * 2, "mre"),
    "one row swapped with another": (_swapped, "row"),
    "one element off": (lambda a: _at(a, (3, 4), a[3, 4] + 8 * abs(a).max()), "element"),
    "transposed": (lambda a: np.ascontiguousarray(a.T), "shape"),
    "reshaped": (lambda a: a.reshape(-1), "shape"),
    "wrong dtype": (lambda a: a.astype(np.int32), "kind"),
    "bool": (lambda a: a > 0, "kind"),
    "empty": (lambda a: a[:0], "empty"),
    "shifted by one": (lambda a: np.roll(a, 1), "mre"),
    "sign lost": (np.abs, "mre"),
}
"""Name -> what it does to a right answer, and the kind of fault that must be among those found."""
