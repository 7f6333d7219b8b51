"""Outputs that a model makes by chance are found by drawing again; all others are compared as ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from harness.engines.randomness import DRAWS, random_outputs
from harness.lowering.passes.normalise import normalise
from tests.helpers.lowering import raw

FEED = {"x": np.full((3, 4), 0.5, np.float32)}
DRAWN = {
    "RandomNormal": "r = RandomNormal <shape = [3, 4]> ()",
    "RandomNormalLike": "r = RandomNormalLike (x)",
    "RandomUniform": "r = RandomUniform <shape = [3, 4]> ()",
    "RandomUniformLike": "r = RandomUniformLike <seed = 3.0> (x)",
    "Bernoulli": "r = Bernoulli (x)",
    "Multinomial": "i = Multinomial <sample_size = 4> (x) r = Cast <to = 1> (i)",
    "Dropout": (
        "p = Constant <value = float {0.5}> () t = Constant <value = bool {1}> () r = Dropout (x, p, t)"
    ),
}


def found(text: str, *names: str) -> tuple[str, ...]:
    outputs = ", ".join(f"float[3,4] {name}" for name in names)
    model = normalise(raw(f"g (float[3,4] x) => ({outputs}) {{ {text} }}"))
    return random_outputs(model, names, lambda: FEED)


def test_every_operator_that_draws_is_tried() -> None:
    assert DRAWN.keys() == DRAWS | {"Dropout"}


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_drawn_is_random_and_the_rest_is_not(name: str) -> None:
    assert found(f"{DRAWN[name]} y = Add(r, x) z = Neg(x)", "y", "z") == ("y",)


@pytest.mark.parametrize("name", DRAWN)
def test_noise_that_counts_for_nothing_is_not_random(name: str) -> None:
    zero = "o = Constant <value = float {0.0}> ()"
    assert found(f"{DRAWN[name]} {zero} q = Mul(r, o) y = Add(q, x)", "y") == ()


def test_a_model_that_draws_nothing_is_not_run() -> None:
    def never() -> Any:
        pytest.fail("was fed")

    for text in ("y = Neg(x)", "y = Dropout(x)"):
        model: ir.Model = normalise(raw(f"g (float[3,4] x) => (float[3,4] y) {{ {text} }}"))
        assert random_outputs(model, ["y"], never) == ()
