"""The table `[loop]` of a model spec: a model whose outputs are fed to its next step."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from harness.spec.axes import AxisName
from harness.spec.types import Axis, Choice, Count, Part, Size


class Window(Part):
    """What is kept of a cache: at most the last `size` entries along `axis`."""

    axis: Axis
    size: Count


class Fed(Part):
    """Which input an output becomes, and how; a bare name means that the output takes its place whole.

    `grow`: the output is appended to the input along this axis.  `roll`: it is appended, and as many entries
    leave at the front.  `window`: it takes the input's place, cut to its last entries.
    """

    to: Annotated[str, Field(min_length=1)]
    grow: Axis | None = None
    roll: Axis | None = None
    window: Window | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"to": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_way(self) -> Fed:
        if sum(way is not None for way in (self.grow, self.roll, self.window)) > 1:
            raise ValueError("`grow`, `roll` and `window` exclude each other")
        return self


class TokenSpec(Part):
    """How tokens come out of a step and go into the next: `argmax` over the last axis of `from`.

    Or a function `file.py:function` that takes the logits of the last position, [batch, vocabulary], and
    returns tokens, [batch].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    logits: Annotated[str, Field(alias="from")]
    to: str
    choose: Choice = "argmax"


class LoopSpec(Part):
    """How a model runs over many steps.

    `feed`: output name to the input that it becomes.  `series`: inputs whose data are one sample a step.
    `start`: sizes of named axes at the first step (by default their opt).  `initial`: what fed inputs hold
    at the first step.  `sequences`: how many loops are run, on different samples.  `growth`: by what
    fraction of itself the limit grows with each step that runs free.
    """

    steps: Count
    feed: dict[str, Fed] = Field(default_factory=dict)
    tokens: TokenSpec | None = None
    series: tuple[str, ...] = ()
    start: dict[AxisName, Size] = Field(default_factory=dict)
    initial: Literal["zeros", "data"] = "zeros"
    sequences: Count = 1
    growth: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _feeds_something(self) -> LoopSpec:
        if not self.feed and self.tokens is None:
            raise ValueError("needs `feed` or `tokens`: nothing of a step reaches the next")
        twice = [name for name, count in Counter(self.followed).items() if count > 1]
        if twice:
            raise ValueError(f"the input {twice[0]!r} is filled twice, by `feed`, `tokens` or `series`")
        return self

    @property
    def followed(self) -> tuple[str, ...]:
        """The inputs that change from step to step by what the table says."""
        tokens = () if self.tokens is None else (self.tokens.to,)
        return (*(fed.to for fed in self.feed.values()), *tokens, *self.series)

    @property
    def read(self) -> tuple[str, ...]:
        """The outputs that the loop reads."""
        return (*self.feed, *(() if self.tokens is None else (self.tokens.logits,)))
