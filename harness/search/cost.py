"""What FP32 nodes cost: latency of the deployed engine with them against the one without, taken in turns."""

from __future__ import annotations

from dataclasses import replace

from harness.engines.engine import BuiltEngine
from harness.engines.subject import Subject
from harness.errors import BackendError
from harness.latency.bench import rotation
from harness.latency.measure import Sampling, interleave
from harness.latency.points import points
from harness.latency.samples import milliseconds
from harness.precision import PrecisionPlan

SAMPLING = Sampling(rounds=10, max_time_s=1.0, warmup_time_s=0.5)


def fusion_cost(with_nodes: BuiltEngine, without: BuiltEngine) -> str:
    """One line: how many nodes or layers each engine has after fusion, where its backend tells."""
    ours, theirs = kernels(with_nodes), kernels(without)
    if ours is None or theirs is None:
        return "  fusions: this backend does not tell"
    change = "none lost" if ours <= theirs else f"{ours - theirs} more to run, for casts and fusions lost"
    return f"  after fusion: {ours} nodes with these nodes FP32, {theirs} without: {change}"


def kernels(built: BuiltEngine) -> int | None:
    """Nodes that the optimised engine runs (ONNX Runtime), or its layers (TensorRT); None if not told."""
    got = built.manifest.got
    deployed = got.get("details", {}).get("deployed")
    counted = deployed.get("nodes_by_provider", {}) if deployed is not None else got.get("nodes", {})
    return sum(counted.values()) or None


def latency_cost(subject: Subject, plan: PrecisionPlan) -> str:
    """Two lines: median latencies with and without the plan's nodes at the first point; fusions lost."""
    point = points(subject.spec)[0]
    try:
        kept, plain = (subject.engine(which) for which in (plan, replace(plan, fp32_nodes=())))
        with kept.open("deployed") as ours, plain.open("deployed") as theirs:
            calls = {
                "with": lambda feed: ours.run(feed, point.profile),
                "without": lambda feed: theirs.run(feed, point.profile),
            }
            found = interleave(calls, rotation(subject.feeds, point), SAMPLING, batch=point.batch)
    except BackendError as error:
        return f"  latency not measured: {error}"
    ours_s, theirs_s = found["with"].p50_s, found["without"].p50_s
    where = f"batch {point.batch}, {subject.backend.info().provider}"
    return (
        f"  latency (p50, {where}): {milliseconds(ours_s)} with these nodes FP32, {milliseconds(theirs_s)} "
        f"without: {ours_s / theirs_s:.2f} times\n{fusion_cost(kept, plain)}"
    )
