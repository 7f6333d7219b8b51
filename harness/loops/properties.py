"""Properties of a right loop that need no reference: a sequence cut in other ways gives the same answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import Tensors
from harness.data.batches import InapplicableError
from harness.loops.feeding import Feeding, Step
from harness.loops.run import LoopQuestion
from harness.loops.tokens import chosen
from harness.spec.axes import parse
from harness.verdict.metamorphic import Outcome, Pair, outcome_of

Array = NDArray[Any]
BATCH, STEPS, PADDING = 3, 4, 3


def check(name: str, question: LoopQuestion) -> Outcome:
    """Check one property of PROPERTIES.  Raises RunError, DataError."""
    return outcome_of(name, PROPERTIES[name](question), question.terms)


def prefill(question: LoopQuestion) -> Iterator[Pair]:
    """A prompt taken whole against the same prompt, a token at a time."""
    yield _in_chunks(question, 1)


def chunked_prefill(question: LoopQuestion) -> Iterator[Pair]:
    """A prompt taken whole against the same prompt in two parts."""
    yield _in_chunks(question, -(-_prompt(question).shape[1] // 2))


def loop_batch(question: LoopQuestion) -> Iterator[Pair]:
    """Sequences in one batch against each of them alone."""
    feeding = _batched(question.feeding)
    step = feeding.first()
    alone = [_row(feeding, step.feeds, row) for row in range(BATCH)]
    for number in range(1, min(STEPS, feeding.loop.steps) + 1):
        together = _run(question, step)
        apart = [_run(question, feeding.step(number, 0, feeds)) for feeds in alone]
        axes = _row_axes(together, apart[0])
        joined = {n: np.concatenate([part[n] for part in apart], axis) for n, axis in axes.items()}
        yield Pair(f"step {number}: {BATCH} sequences together and each alone", _only(together, axes), joined)
        step = feeding.next(step, together, _tokens(question, together, number))
        states = {fed.to for fed in feeding.loop.feed.values()}
        alone = [
            {**{n: a for n, a in _row(feeding, step.feeds, row).items() if n not in states}, **own}
            for row, own in enumerate(map(feeding.states, alone, apart))
        ]


def left_padding(question: LoopQuestion) -> Iterator[Pair]:
    """A prompt against the same prompt behind padding that the mask leaves out, and one step after it."""
    feeding, whole = question.feeding, question.feeding.first()
    name, tokens = _tokens_input(feeding), _prompt(question)
    masks, places = _generated(feeding, "mask"), _generated(feeding, "positions")
    if not masks or not places:
        raise InapplicableError("no input is a mask, or none holds positions: padding cannot be told")
    padded = np.concatenate([np.zeros_like(tokens[:, :PADDING]), tokens], 1)
    if padded.shape[1] != tokens.shape[1] + PADDING:
        raise InapplicableError(f"its prompt has fewer than {PADDING} tokens")
    other = _padded(feeding.step(1, 0, {**_states(feeding, whole.feeds), name: padded}), masks, places)
    plain = _run(question, whole)
    moved = _run(question, other)
    yield _unpadded(question, "the prompt", moved, plain)
    chosen_tokens = _tokens(question, plain, 1)
    after = feeding.next(whole, plain, chosen_tokens), feeding.next(other, moved, chosen_tokens)
    found = _run(question, _padded(after[1], masks, places))
    yield _unpadded(question, "the step after it", found, _run(question, after[0]))


PROPERTIES: Mapping[str, Callable[[LoopQuestion], Iterator[Pair]]] = {
    "prefill": prefill,
    "chunked-prefill": chunked_prefill,
    "loop-batch": loop_batch,
    "left-padding": left_padding,
}


def _in_chunks(question: LoopQuestion, size: int) -> Pair:
    feeding, tokens, name = question.feeding, _prompt(question), _tokens_input(question.feeding)
    first = feeding.first()
    whole = _run(question, first)
    states, outputs, length = _states(feeding, first.feeds), whole, tokens.shape[1]
    for start in range(0, length, size):
        step = feeding.step(1, 0, {**states, name: tokens[:, start : start + size]})
        outputs = _run(question, step)
        states = feeding.states(step.feeds, outputs)
    parts = -(-length // size)
    compared = _last(question, whole), _last(question, outputs)
    return Pair(f"{length} tokens at once, and in {parts} parts", *compared)


def _prompt(question: LoopQuestion) -> Array:
    """The tokens of the first step, [batch, n]; n is at least 2, and an axis that may have any size."""
    feeding = question.feeding
    name = _tokens_input(feeding)
    dims = feeding.spec.profiles[0].shapes[name].dims
    if dims is None or len(dims) != 2 or not isinstance(dims[1], str) or parse(dims[1]).name is None:
        raise InapplicableError(f"how many tokens {name!r} takes is no named axis")
    tokens = feeding.first().feeds[name]
    if tokens.shape[1] < 2:
        raise InapplicableError("its first step takes one token")
    return tokens


def _tokens_input(feeding: Feeding) -> str:
    if feeding.loop.tokens is None:
        raise InapplicableError("the loop has no tokens")
    if not feeding.loop.feed:
        raise InapplicableError("the loop has no state")
    return feeding.loop.tokens.to


def _last(question: LoopQuestion, outputs: Tensors) -> dict[str, Array]:
    """The logits of the last position, and every state."""
    tokens = question.feeding.loop.tokens
    assert tokens is not None
    states = {name: outputs[name] for name in question.feeding.loop.feed}
    return {**states, tokens.logits: outputs[tokens.logits][:, -1:]}


def _tokens(question: LoopQuestion, outputs: Tensors, number: int) -> Array | None:
    tokens = question.feeding.loop.tokens
    return None if tokens is None else chosen(question.choose, outputs[tokens.logits], f"step {number}")


def _run(question: LoopQuestion, step: Step) -> Tensors:
    return question.engine(step.feeds, step.profile)


def _states(feeding: Feeding, feeds: Tensors) -> dict[str, Array]:
    return {fed.to: feeds[fed.to] for fed in feeding.loop.feed.values()}


def _batched(feeding: Feeding) -> Feeding:
    """The same loop with BATCH sequences in each step."""
    profile, spec = feeding.spec.profiles[0], feeding.spec
    names = set()
    for name in feeding.loop.followed:
        dims, axis = profile.shapes[name].dims, spec.inputs[name].batch_axis
        dim = dims[axis] if dims is not None and axis is not None and dims else None
        names.add(parse(dim).name if isinstance(dim, str) else None)
    if len(names) != 1 or (axis_name := names.pop()) is None:
        raise InapplicableError("no named axis counts the sequences of all that goes from step to step")
    if not profile.axes[axis_name].min <= 1 < BATCH <= profile.axes[axis_name].max:
        raise InapplicableError(f"its axis {axis_name!r} has not both 1 and {BATCH}")
    start = {**feeding.loop.start, axis_name: BATCH}
    return Feeding(spec, feeding.loop.model_copy(update={"start": start}), feeding.feeds)


def _row(feeding: Feeding, feeds: Tensors, row: int) -> dict[str, Array]:
    """One sequence of a batch."""
    axes = {name: part.batch_axis for name, part in feeding.spec.inputs.items()}
    counted = {n: axis for n, axis in axes.items() if axis is not None and feeds[n].ndim > axis}
    return {
        n: np.take(a, [row], counted[n]) if n in counted and a.shape[counted[n]] == BATCH else a
        for n, a in feeds.items()
    }


def _row_axes(together: Tensors, alone: Tensors) -> dict[str, int]:
    """The axis of each output that counts sequences."""
    found = {}
    for name, array in together.items():
        sizes = enumerate(zip(array.shape, alone[name].shape, strict=False))
        axis = next((k for k, pair in sizes if pair == (BATCH, 1)), None)
        if axis is not None:
            found[name] = axis
    if not found:
        raise InapplicableError("no output has an axis that counts sequences")
    return found


def _only(outputs: Tensors, names: Mapping[str, int]) -> dict[str, Array]:
    return {name: outputs[name] for name in names}


def _generated(feeding: Feeding, generator: str) -> list[str]:
    return [n for n, part in feeding.spec.inputs.items() if part.data.generator == generator]


def _padded(step: Step, masks: list[str], places: list[str]) -> Step:
    """A step whose first PADDING positions are left out, and not counted."""
    feeds = dict(step.feeds)
    for name in masks:
        feeds[name] = feeds[name].copy()
        feeds[name][..., :PADDING] = 0
    for name in places:
        feeds[name] = np.maximum(feeds[name] - PADDING, 0).astype(feeds[name].dtype)
    return Step(step.number, step.profile, feeds)


def _unpadded(question: LoopQuestion, what: str, padded: Tensors, plain: Tensors) -> Pair:
    """The last logits of both: states hold what the padding left in them, which nothing reads."""
    tokens = question.feeding.loop.tokens
    assert tokens is not None
    ours, theirs = ({tokens.logits: one[tokens.logits][:, -1:]} for one in (padded, plain))
    return Pair(f"{what}, behind {PADDING} of padding and without", ours, theirs)
