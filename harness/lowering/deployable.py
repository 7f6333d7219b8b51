"""What a target makes of a model: each thing that it refuses, with node, reason, way out, and who refuses."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import shorten
from harness.lowering.targets import Target, Version, families_before


@dataclass(frozen=True)
class Refusal:
    """One thing that a target refuses.

    `since`: the first TensorRT that takes it, None if none does; `rtx`: whether TensorRT-RTX refuses it.
    """

    reason: str
    way_out: str
    since: Version | None = None
    rtx: bool = True
    node: str = ""

    def by(self, target: Target) -> bool:
        """Whether every version of `target` refuses it."""
        return {"tensorrt": self.since is None, "tensorrt_rtx": self.rtx, "onnxruntime": False}[target]

    @property
    def families(self) -> tuple[str, ...]:
        """The families of TensorRT of which some version refuses it, if not all do."""
        return () if self.since is None else families_before(self.since)

    @property
    def line(self) -> str:
        """Node and reason."""
        return f"node {shorten(self.node)}: {self.reason}" if self.node else self.reason

    def words(self) -> str:
        """Node, reason, way out."""
        return f"{self.line}; {self.way_out}"


TOLD = 3
"""How many refusals are told in full."""


@dataclass(frozen=True)
class Deployment:
    """What `target` makes of a model: `found` is what any target refuses in it."""

    target: Target
    found: tuple[Refusal, ...] = ()

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """What every version of the target refuses: the model cannot be deployed there."""
        return tuple(one for one in self.found if one.by(self.target))

    @property
    def partly(self) -> tuple[Refusal, ...]:
        """What some versions of TensorRT refuse, where it is the target."""
        return tuple(one for one in self.found if self.target == "tensorrt" and one.families)

    def message(self) -> str:
        """Why the model is not deployable, each node once; empty where it is."""
        lines = list(dict.fromkeys(one.words() for one in self.refused))
        more = [f"and {len(lines) - TOLD} more"] if len(lines) > TOLD else []
        return "\n  ".join([f"{self.target} refuses it:", *lines[:TOLD], *more]) if lines else ""

    def warnings(self) -> tuple[str, ...]:
        """What some versions refuse, with the families that they belong to."""
        said = {one.words(): one for one in self.partly}
        return tuple(
            f"TensorRT before {_version(one)} (families {', '.join(one.families)}) refuses: {words}"
            for words, one in said.items()
        )

    def caveats(self) -> tuple[str, ...]:
        """The same in a few words."""
        newest = max((one.since for one in self.partly if one.since), default=None)
        return () if newest is None else (f"not deployable before TensorRT {newest[0]}.{newest[1]}",)


def _version(one: Refusal) -> str:
    return "" if one.since is None else f"{one.since[0]}.{one.since[1]}"
