"""What an FP32 search found, in words."""

from __future__ import annotations

from collections.abc import Iterator

from harness.comparison.explain import problems
from harness.search.case import Proposal
from harness.search.shrink import SMALL
from harness.verdict.validate import worst

SHOWN = 64


def explain(found: Proposal, seconds: float, resume: str) -> str:
    """The answer: nodes, region, error before and after, the engine's verdict, and what it took."""
    return "\n".join(_lines(found, seconds, resume))


def _lines(found: Proposal, seconds: float, resume: str) -> Iterator[str]:
    result = found.result
    yield f"{found.model}[{found.precision}]: {_answer(found)}"
    if not result.diffuse:
        yield from (f"    {node}" for node in result.nodes[:SHOWN])
        if len(result.nodes) > SHOWN:
            yield f"    ... and {len(result.nodes) - SHOWN} more"
    if result.nodes:
        yield "  op types: " + ", ".join(f"{count} {name}" for name, count in found.op_types.items())
    if result.nodes and not result.diffuse:
        yield from _regions(found)
    if result.passed and result.nodes and len(result.nodes) == found.candidates:
        yield f"  nothing is left that {found.precision} would change: deploy the model in fp32"
    if result.before is not None:
        what = "mre" if found.by_mre else "mre, or in proportion where a row or an element breaks its bound"
        yield f"  error ({what}; emulated): {_error(found)}"
    if result.diffuse or (result.interrupted and result.curve):
        yield "  nodes kept, error: " + ", ".join(f"{p.kept}: {p.mre:.1e}" for p in result.curve)
    yield from _verdict(found)
    yield f"  used: {_used(found)}; {seconds:.1f} s"
    if found.trouble:
        yield f"  note: {found.trouble}"
    if result.interrupted:
        yield f"  the search ended early: {result.interrupted}; to go on from here: {resume}"


def _answer(found: Proposal) -> str:
    result = found.result
    if result.passed and not result.nodes:
        return "passes as it is; no node must stay FP32"
    if not result.passed:
        return "no passing set found yet"
    if result.diffuse:
        return (
            f"the error is diffuse: no set of {SMALL} nodes or fewer was found to be enough; "
            f"{len(result.nodes)} of {found.candidates} nodes are"
        )
    shown = "" if result.minimal else " (not shown minimal)"
    return f"{len(result.nodes)} of {found.candidates} nodes must stay FP32{shown}"


def _regions(found: Proposal) -> Iterator[str]:
    """Nodes that hang together; those that do not are listed above."""
    together = [nodes for nodes in found.regions if len(nodes) > 1]
    yield from (f"  region: {len(nodes)} nodes from {nodes[0]} to {nodes[-1]}" for nodes in together)
    alone = len(found.regions) - len(together)
    if alone:
        yield f"  {alone} of them lie{'s' * (alone == 1)} alone"


def _error(found: Proposal) -> str:
    result = found.result
    after = f"{result.after:.1e} with these nodes FP32" if result.nodes and result.after is not None else ""
    before = f"{result.before:.1e} with none" if result.before is not None else ""
    return "; ".join(filter(None, (before, after))) + f"; allowed {result.tolerance:.1e}"


def _verdict(found: Proposal) -> Iterator[str]:
    if found.unverified:
        yield f"  not verified on an engine: {found.unverified}"
    if not found.verified:
        return
    failed = found.disagreeing
    least = worst(found.verified)
    if not failed:
        yield f"  the engine agrees at all {len(found.verified)} shapes: mre {least.found.mre:.1e} at most"
        yield from _needed(found)
        return
    yield f"  the engine does not agree at {len(failed)} of {len(found.verified)} shapes:"
    yield from (f"    {answer.place}: {'; '.join(problems(answer.found))}" for answer in failed)


def _needed(found: Proposal) -> Iterator[str]:
    if found.spare is None:
        return
    if not found.spare:
        yield "  the engine needs each of them: built without any one, it fails"
        return
    yield f"  the engine, unlike its emulation, passes without any one of: {', '.join(found.spare)}"


def _used(found: Proposal) -> str:
    result = found.result
    parts = [f"{result.evaluations} evaluations"]
    if result.proof_evaluations:
        parts.append(f"{result.proof_evaluations} more to show that none can be taken")
    if result.remembered:
        parts.append(f"{result.remembered} remembered from an earlier search")
    return ", ".join(parts)
