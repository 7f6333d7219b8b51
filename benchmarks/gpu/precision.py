"""Precision debugging on real kernels: TF32 named as the cause, FP32 nodes verified, bundles that reproduce.

    python benchmarks/gpu/precision.py --out FILE.json

1. residual_cnn at FP32 with TF32 on fails, and the same engine without TF32 passes: TF32 is the cause.
2. overflow_transformer at FP16 without its FP32 nodes fails; the search's answer is verified on the engine,
   and shown minimal there: built without any one node, it fails.  What the nodes cost in latency.
3. The failure of 2 as a bundle, whole and minimised: its script, run by itself, fails by the same error.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import ROOT, here, options, where, write

if TYPE_CHECKING:
    from harness.engines.subject import Subject

MODELS = ROOT / "suites" / "models"


def subject(name: str, provider: str, folder: Path, **changes: Any) -> Subject:
    """A bundled model with parts of its spec changed."""
    from harness.backends.choose import create
    from harness.engines.subject import Subject
    from harness.spec.file import read_spec
    from harness.storage.cache import Cache

    spec = read_spec(MODELS / name / "spec.toml").model_copy(update=changes)
    return Subject(spec, create("onnxruntime", provider=provider), Cache(folder / "cache"))


def tf32(provider: str, folder: Path) -> dict[str, Any]:
    """Verdict and advice of an FP32 engine with TF32 on; without such a provider there is no failure."""
    from harness.errors import HarnessError
    from harness.precision import Precision
    from harness.reproduce.failure import find_failure
    from harness.spec.model_spec import BuildSpec

    try:
        found = find_failure(
            subject("residual_cnn", provider, folder, build=BuildSpec(tf32=True)), Precision.FP32
        )
    except HarnessError as error:
        return {"verdict": "none", "advice": str(error)}
    return {"verdict": found.triage.verdict, "advice": found.triage.advice, "mre": found.found.mre}


def search(bare: Subject) -> dict[str, Any]:
    """What the search proposes, what the engine says of it, and what it costs."""
    from harness.precision import Precision
    from harness.search.case import Request, propose
    from harness.search.cost import latency_cost
    from harness.search.proposal import data_of
    from harness.search.words import explain

    started = time.monotonic()
    found = propose(bare, Request(Precision.FP16))
    print(explain(found, time.monotonic() - started, ""), flush=True)
    cost = latency_cost(bare, found.plan)
    print(cost, flush=True)
    return {**data_of(found), "cost": cost.split("\n")}


def bundles(bare: Subject, folder: Path) -> dict[str, Any]:
    """For the bundle, whole and minimised: nodes, exit status of its script, and what it printed."""
    from harness.options import Options
    from harness.precision import Precision
    from harness.reproduce.bundle import write as pack
    from harness.reproduce.failure import find_failure
    from harness.reproduce.minimise import minimised

    whole, found = find_failure(bare, Precision.FP16), {}
    with minimised(whole, bare, print) as small:
        for name, failure in (("whole", whole), ("minimised", small)):
            pack(failure, folder / name, Options())
            done = subprocess.run(
                [sys.executable, "reproduce.py"],
                cwd=folder / name,
                capture_output=True,
                text=True,
                check=False,
            )
            case = json.loads((folder / name / "case.json").read_text())
            found[name] = {"nodes": failure.nodes, "mre": case["mre"], "ran": case["ran"]}
            found[name] |= {"exit": done.returncode, "printed": done.stdout + done.stderr[-500:]}
            print(f"{name}: {failure.nodes} nodes, exit {done.returncode}: {done.stdout.strip()}", flush=True)
    return found


def main() -> int:
    """Print and keep the figures; 1 where one is not as the module says."""
    args = options(__doc__)
    print(here(), flush=True)
    figures: dict[str, Any] = {"where": where()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures["tf32"] = tf32(args.provider, folder)
        print(f"FP32 with TF32 on: {figures['tf32']}", flush=True)
        bare = subject("overflow_transformer", args.provider, folder, precision={})
        figures["search"] = search(bare)
        figures["bundles"] = bundles(bare, folder)
    write(args.out, figures)
    good = "TF32 is the cause" in figures["tf32"]["advice"] and len(figures["search"]["nodes"]) == 5
    good = good and figures["search"]["engine_spare"] == []
    return 0 if good and all(one["exit"] == 1 for one in figures["bundles"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
