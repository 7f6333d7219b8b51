"""One record for each thing that was checked or measured, and the verdicts that records give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Kind = Literal["engine", "outputs", "accuracy", "layers", "latency", "search", "metamorphic", "loop"]
Verdict = Literal[
    "skipped",
    "pass",
    "unverified",
    "undecided",
    "precision-limited",
    "fail",
    "engine-suspect",
    "reference-limited",
    "not-deployable",
    "export-suspect",
    "error",
]


@dataclass(frozen=True)
class Meaning:
    """What a verdict says, whether it fails the run, and whether a user may let it through all the same."""

    says: str
    fails: bool = True
    allowable: bool = True


VERDICTS: Mapping[Verdict, Meaning] = MappingProxyType(
    {
        "skipped": Meaning("not run, and the message says why", fails=False, allowable=False),
        "pass": Meaning("what was checked holds", fails=False, allowable=False),
        "unverified": Meaning(
            "the outputs were not, or could not be, compared", fails=False, allowable=False
        ),
        "undecided": Meaning("too few samples to tell whether the metric fell"),
        "precision-limited": Meaning("the precision is the cause: search the layers that must stay FP32"),
        "fail": Meaning("another check fails, a test's own or a regression among them", allowable=False),
        "engine-suspect": Meaning("precision does not explain the error: bundle it"),
        "reference-limited": Meaning(
            "the reference's own error is above the limit, and explains what is seen"
        ),
        "not-deployable": Meaning("the target refuses what the model holds"),
        "export-suspect": Meaning("the ONNX file computes something else than what it was exported from"),
        "error": Meaning("the test broke", allowable=False),
    }
)
"""Every verdict, the worst last.

Where several hold, the worst is told: a fault is looked for where it comes in first, in the export, then in
what the target can hold, the reference, the engine, and the precision last.
"""
ALLOWABLE = tuple(name for name, meaning in VERDICTS.items() if meaning.allowable)
"""What `--trt-allow` takes."""
_PLACES: Mapping[str, int] = {name: place for place, name in enumerate(VERDICTS)}
_FAILING = frozenset(name for name, meaning in VERDICTS.items() if meaning.fails)


def severity(verdict: str) -> int:
    """The place of a verdict, the worst last; one that is not known comes after all others."""
    return _PLACES.get(verdict, len(_PLACES))


def worst(verdicts: Iterable[str]) -> str:
    """The verdict to tell where several hold."""
    return max(verdicts, key=severity)


def fails(verdict: str) -> bool:
    """Whether a verdict fails the run; one that is not known does."""
    return verdict in _FAILING or verdict not in _PLACES


@dataclass(frozen=True)
class Record:
    """One checked or measured case; plain JSON data through and through, so that it crosses processes.

    `shapes` is input name -> shape.  `data` depends on `kind` and is documented in reports/README.md.
    `manifest` is the hash of the manifest of the engine that was used.  `caveats` are what the verdict cannot
    see, in a few words each, which stand beside it in every table.  `allowed`: the user lets the verdict
    through.  `run` is set in merged results.
    """

    kind: Kind
    model: str
    precision: str
    backend: str
    verdict: Verdict
    profile: str | None = None
    shapes: Mapping[str, list[int]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    manifest: str | None = None
    warnings: tuple[str, ...] = ()
    message: str = ""
    nodeid: str = ""
    reproduce: str = ""
    duration_s: float | None = None
    run: str = ""
    caveats: tuple[str, ...] = ()
    allowed: bool = False

    @property
    def fails(self) -> bool:
        """Whether the record fails the run."""
        return fails(self.verdict) and not self.allowed

    def to_json(self) -> dict[str, Any]:
        """The record as JSON-ready data."""
        return asdict(self)
