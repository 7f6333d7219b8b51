"""Tokens: what is chosen, what is a tie, what a function of the user's own may give."""

import numpy as np
import pytest

from harness.errors import DataError
from harness.loops.tokens import argmax, chosen, flips


def test_the_last_position_chooses():
    logits = np.zeros((2, 3, 5), np.float32)
    logits[0, -1, 4] = logits[1, -1, 1] = logits[:, 0, 2] = 1
    assert chosen(argmax, logits, "").tolist() == [4, 1]
    assert chosen(argmax, logits[:, -1], "").tolist() == [4, 1]


def test_a_flip_within_the_precision_is_a_tie_and_a_larger_one_is_none():
    logits = np.array([[1.0, 1.001, -2.0], [1.0, 1.5, -2.0]])
    got, expected = np.array([0, 0]), np.array([1, 1])
    close, far = flips(7, got, expected, logits, limit=5e-3)
    assert (close.tie, far.tie) == (True, False)
    assert (far.step, far.row, far.got, far.expected) == (7, 1, 0, 1)
    assert far.margin == pytest.approx(0.5)
    assert flips(7, got, expected, logits, limit=5e-6)[0].tie is False


def test_equal_tokens_are_no_flips():
    assert flips(1, np.array([1]), np.array([1]), np.zeros((1, 3)), limit=1.0) == []


@pytest.mark.parametrize(
    ("choose", "said"),
    [
        (lambda _: np.array([0]), "must give 2 whole numbers"),
        (lambda _: np.array([0.5, 1.0]), "must give 2 whole numbers"),
        (lambda _: np.array([0, 5]), "outside 0 to 4"),
        (lambda _: np.array([-1, 0]), "outside 0 to 4"),
    ],
)
def test_a_function_that_gives_no_tokens_is_told_with_the_step(choose, said):
    with pytest.raises(DataError, match=f"spec: step 3.*{said}"):
        chosen(choose, np.zeros((2, 5)), "spec: step 3")
