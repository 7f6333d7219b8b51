"""A search for FP32 nodes as the suites run it: bounded, recorded, and proposed where it found something."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.precision import Precision
from harness.report.plain import plain
from harness.search.case import REDUCED, Proposal, Request, propose
from harness.search.result import Budget, Step
from harness.search.words import explain
from harness.verdict.validate import worst

if TYPE_CHECKING:
    from harness.engines.subject import Subject

BUDGET = Budget(evaluations=100, seconds=600.0)
"""What one search of a run may use; `trt-harness search-fp32` goes on from there."""


@dataclass(frozen=True)
class Searched:
    """What a search came to: the record's verdict, its data as in reports/README.md, and the words.

    `stopped`: the user interrupted it.
    """

    verdict: str
    data: dict[str, Any]
    message: str
    stopped: bool = False


def search_case(
    subject: Subject, precision: Precision, *, strict: bool = False, tell: Callable[[str], None] | None = None
) -> Searched | None:
    """Search the nodes of a case that must stay FP32; None for a precision that has nothing to search.

    `strict`: the expected error is the limit.  Raises DataError, BackendError.
    """
    if precision not in REDUCED:
        return None
    started = time.monotonic()
    limit = subject.spec.tolerance(precision, strict=True).limit if strict else None
    say = tell or (lambda _: None)

    def heard(step: Step) -> None:
        say(f"FP32 search: evaluation {step.number}, {step.kept} nodes FP32, mre {step.mre:.1e}")

    try:
        found = propose(subject, Request(precision, limit, BUDGET), heard)
    except UsageError as error:
        return Searched("precision-limited", {"nodes": [], "curve": []}, str(error))
    verdict = "pass" if found.found else "precision-limited"
    words = explain(found, time.monotonic() - started, resume(subject, precision))
    return Searched(verdict, data_of(found), words, found.result.interrupted == "stopped by the user")


def resume(subject: Subject, precision: Precision) -> str:
    """The command that continues the search."""
    where = subject.spec.path or subject.spec.model.onnx or "SPEC"
    return shlex.join(["trt-harness", "search-fp32", str(where), "--precision", str(precision)])


def data_of(found: Proposal) -> dict[str, Any]:
    """The record's `data`: plain JSON."""
    result = found.result
    nodes = list(result.nodes) if found.found else []
    data = {
        "nodes": nodes,
        "fp32_nodes": list(found.plan.fp32_nodes) if found.found else [],
        "op_types": dict(found.op_types),
        "regions": [list(region) for region in found.regions],
        "candidates": found.candidates,
        "tolerance": result.tolerance,
        "before": result.before,
        "after": result.after,
        "evaluations": result.evaluations,
        "proof_evaluations": result.proof_evaluations,
        "minimal": result.minimal,
        "diffuse": result.diffuse,
        "interrupted": result.interrupted,
        "curve": [[point.kept, point.mre] for point in result.curve],
        "engine_mre": worst(found.verified).found.mre if found.verified else None,
        "engine_spare": list(found.spare) if found.spare is not None else None,
        "unverified": found.unverified,
    }
    made: dict[str, Any] = plain(data)
    return made
