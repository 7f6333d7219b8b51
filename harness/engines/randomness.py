"""Outputs that a model makes by chance: no two runtimes draw the same numbers, so nothing can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from harness.backends.base import Tensors
from harness.graph.file import clone
from harness.graph.walk import all_nodes

DRAWS = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
SEEDS = (1.0, 2.0)


def random_outputs(model: ir.Model, names: Sequence[str], feed: Callable[[], Tensors]) -> tuple[str, ...]:
    """The outputs among `names` that differ on a feed when the nodes that draw get another seed.

    A model that draws nothing is not run.  Raises RunError.
    """
    if not any(True for _ in _drawing(model)):
        return ()
    given = feed()
    first, second = (_outputs(model, names, given, seed) for seed in SEEDS)
    return tuple(name for name in names if not _same(first[name], second[name]))


def _drawing(model: ir.Model) -> Iterator[ir.Node]:
    return (node for node in all_nodes(model.graph) if not node.domain and _draws(node))


def _draws(node: ir.Node) -> bool:
    """Whether a node draws numbers; Dropout does in training, which an input of it may decide."""
    if node.op_type != "Dropout":
        return node.op_type in DRAWS
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    return mode is not None and (mode.const_value is None or bool(np.any(mode.const_value.numpy())))


def _outputs(model: ir.Model, names: Sequence[str], feed: Tensors, seed: float) -> Tensors:
    from harness.backends.onnxruntime.backend import SessionSettings, open_model

    seeded = clone(model)
    for node in _drawing(seeded):
        whole = node.op_type == "Dropout"
        node.attributes["seed"] = ir.AttrInt64("seed", int(seed)) if whole else ir.AttrFloat32("seed", seed)
    with open_model(seeded, names, settings=SessionSettings(level="none")) as engine:
        return engine.run(feed)


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
