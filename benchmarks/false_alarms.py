"""How often the latency gate errs on this machine, on a real engine: false alarms, and slowdowns found.

    python -m benchmarks.false_alarms [PAIRS]

An engine is measured beside itself, round by round in turn, and again as long as the answer is not clear, as
`--trt-interleave` does.  A slowdown is injected by waiting inside the call.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.command import arguments, count
from harness.backends.onnxruntime.session import OrtEngine, SessionSettings
from harness.latency.measure import Sampling, interleave, measure
from harness.plugin.regression import ATTEMPTS, NOISY
from harness.report.gate import compare

SIZE, LAYERS = 256, 8
SAMPLING = Sampling(max_samples=1000, max_time_s=0.2, warmup_time_s=0.2)


def write_model(path: Path) -> None:
    """A chain of matrix products."""
    rng = np.random.default_rng(0)
    names = ["x", *(f"h{i}" for i in range(1, LAYERS)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(LAYERS)]
    weights = [rng.normal(0, 1 / 16, (SIZE, SIZE)).astype(np.float32) for _ in range(LAYERS)]
    graph = helper.make_graph(
        nodes, "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [16, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, SIZE])],
        [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), path)


def slowed(call: Callable[[Any], Any], typical_s: float, share: float) -> Callable[[Any], Any]:
    """The call, and a wait of `share` of its usual time."""

    def slow(feed: Any) -> Any:
        result = call(feed)
        until = time.perf_counter() + share * typical_s
        while time.perf_counter() < until:
            pass
        return result

    return slow


def main(pairs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.onnx"
        write_model(path)
        with OrtEngine.open(path, SessionSettings(level="all")) as engine:
            feeds = [{"x": np.full((16, SIZE), float(i), np.float32)} for i in range(4)]
            report(engine.run, feeds, pairs)


def report(call: Callable[[Any], Any], feeds: list[Any], pairs: int) -> None:
    typical = measure(call, feeds, SAMPLING).p50_s
    print(f"{typical * 1e6:.0f} us per call, {pairs} pairs, load {os.getloadavg()[0]:.1f}", flush=True)
    for name, other in (("identical", call), ("10 % slower", slowed(call, typical, 0.10))):
        alarms = sum(alarm(call, other, feeds) for _ in range(pairs))
        print(f"{name:>12}: {alarms} alarms in {pairs} pairs, load {os.getloadavg()[0]:.1f}", flush=True)


def alarm(call: Callable[[Any], Any], other: Callable[[Any], Any], feeds: list[Any]) -> bool:
    """Whether `other` is found slower than `call`."""
    base, new = [], []
    for _ in range(1 + ATTEMPTS):
        found = interleave({"base": call, "new": other}, feeds, SAMPLING)
        base.append(found["base"].round_medians_s)
        new.append(found["new"].round_medians_s)
        change = compare(base, new, paired=True)
        if change.finding != "slower" and change.smallest_effect <= NOISY:
            break
    return change.finding == "slower"


if __name__ == "__main__":
    text = "how often each is measured (default: 50)"
    pairs = {"type": count, "nargs": "?", "default": 50, "metavar": "PAIRS", "help": text}
    main(arguments(__file__, __doc__, pairs=pairs).pairs)
