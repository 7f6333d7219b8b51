"""Scale: 1,000 specs collected, 10,000 records written and read, a model of 2.4 GB lowered and compared.

    python -m benchmarks.scale [PART...]

Each figure is taken in a process of its own and printed beside its bound; exit status 1 where one misses.
Memory is the peak of the process (resident, mapped files included) unless said otherwise.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import arguments, one_of
from benchmarks.memory import peak_bytes

MB = 1e6
SPECS, RECORDS = 1000, 10_000
LAYERS, WIDTH = 9, 8192
"""Square weights of 268 MB each: 2.4 GB in all."""

SPEC = """\
name = "net{number}"
precisions = ["fp32", "fp16", "int8"]
model.onnx = "../model.onnx"

[inputs.x]
dtype = "float32"
data = {{ npz = "../data.npz", member = "x" }}

[[profiles]]
shapes.x = {{ min = [1, 4], opt = [2, 4], max = [5, 4] }}

[precision.fp16]
fp32_nodes = ["matmul"]  # found by a search
"""


@dataclass(frozen=True)
class Figure:
    """What was measured and what it must not exceed, in `unit`."""

    what: str
    value: float
    bound: float
    unit: str

    def __str__(self) -> str:
        word = "" if self.value <= self.bound else "   MISSED"
        return f"{self.what:52} {self.value:9.2f} {self.unit:5} (bound {self.bound:g}){word}"


def collect(folder: Path) -> list[Figure]:
    """`pytest --collect-only` over the suites with 1,000 specs at three precisions."""
    import numpy as np

    (folder / "model.onnx").write_bytes(b"never read while collecting")
    np.savez(folder / "data.npz", x=np.zeros((4, 4), np.float32))
    for number in range(SPECS):
        (folder / f"net{number}").mkdir()
        (folder / f"net{number}" / "spec.toml").write_text(SPEC.format(number=number))
    # hypothesis, which users of the suites need not have, imports itself whole at the end of each run.
    arguments = [
        "--collect-only",
        "-qq",
        f"--trt-spec={folder}",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
    ]
    command = [sys.executable, "-m", "pytest", "suites", *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode or f"test_outputs[net{SPECS - 1}-int8]" not in _collected(command):
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MB
    what = f"collect {SPECS:,} specs x 3 precisions"
    return [Figure(what, seconds, 5, "s"), Figure(f"{what}, memory", memory, 500, "MB")]


def _collected(command: list[str]) -> str:
    """The ids that are collected, in a run that is not timed: printing them takes a while."""
    listed = ["-q" if word == "-qq" else word for word in command]
    return subprocess.run(listed, capture_output=True, text=True, check=False).stdout


def report(folder: Path) -> list[Figure]:
    """A run of 10,000 tests, a record each: journal as it goes, pages at the end, all of it read back."""
    from harness.report import results
    from harness.report.collect import Collector, Phase, now
    from harness.report.results import Results
    from harness.report.write import write_run

    ids = [f"net{k}-{p}" for k in range(SPECS) for p in ("fp32", "fp16", "int8")]
    collector = Collector(folder / "run", Results("run", now()), lambda: ids)
    started = time.perf_counter()
    for k in range(RECORDS):
        nodeid = f"suites/test_outputs.py::test_outputs[{ids[k % len(ids)]}]"
        collector.begin(nodeid)
        collector.add(nodeid, Phase("passed", 0.1, records=[_record(k, *ids[k % len(ids)].split("-"))]))
        collector.end(nodeid)
    journal = time.perf_counter()
    found = collector.results(0, True)
    write_run(found, folder / "run")
    written = time.perf_counter()
    back = results.read(folder / "run")
    read = time.perf_counter()
    recovered = results.recover(folder / "run" / results.JOURNAL)
    again = time.perf_counter()
    if back.records != found.records or len(recovered.records) != RECORDS:
        raise SystemExit("the records that are read are not those that were written")
    page = (folder / "run" / "report.html").stat().st_size / MB
    return [
        Figure(f"keep {RECORDS:,} finished cases in the journal", journal - started, 10, "s"),
        Figure("write results.json, summary.md and report.html", written - journal, 10, "s"),
        Figure("read results.json", read - written, 5, "s"),
        Figure("recover the run from its journal", again - read, 5, "s"),
        Figure("size of report.html", page, 50, "MB"),
    ]


def _record(number: int, model: str, precision: str) -> Mapping[str, object]:
    from harness.records import Record
    from harness.report.plain import plain

    worst = {"index": [3, 7], "actual": 1.284, "expected": 1.253}
    output = {"name": "logits", "mre": 2e-4, "snr_db": 61.2, "p99": 2e-3, "worst": worst}
    data = {"label": "opt", "mre": 2e-4, "limit": 5e-3, "expected": 1e-3, "outputs": [output]}
    shapes = {"x": [number + 1, 28, 28]}
    made = Record(
        "outputs", model, precision, "onnxruntime", "pass", profile="default", shapes=shapes, data=data
    )
    found: Mapping[str, object] = plain(made.to_json())
    return found


def model(folder: Path) -> list[Figure]:
    """A model of 2.4 GB in external data: read, normalised, lowered to FP16, emulated, run, compared."""
    import numpy as np

    from harness.backends.onnxruntime.backend import open_model
    from harness.comparison.compare import compare
    from harness.comparison.explain import explain
    from harness.graph import file as onnx_file
    from harness.lowering.emulation.emulate import emulate
    from harness.lowering.lower import lower
    from harness.lowering.passes.normalise import normalise
    from harness.precision import TOLERANCES, Precision, PrecisionPlan

    path, size = _large_model(folder), LAYERS * WIDTH * WIDTH * 4
    before, started = peak_bytes(), time.perf_counter()
    normalised = normalise(onnx_file.read(path))
    emulated = emulate(lower(normalised, PrecisionPlan(Precision.FP16)))
    lowered = time.perf_counter()
    feed = {"x": np.random.default_rng(0).normal(size=(2, WIDTH)).astype(np.float32)}
    outputs = []
    for made in (normalised, emulated):
        with open_model(made) as engine:
            outputs.append(engine.run(feed)["y"])
    found = compare(outputs[1], outputs[0], TOLERANCES[Precision.FP16], name="y", precision=Precision.FP16)
    ended = time.perf_counter()
    if not found.quality:
        raise SystemExit(explain(found))
    share = (peak_bytes() - before) / size
    return [
        Figure(f"read, normalise, lower, emulate {size / 1e9:.1f} GB", lowered - started, 60, "s"),
        Figure("run FP32 and emulation, compare", ended - lowered, 300, "s"),
        Figure("memory of all of it, as a multiple of the model", share, 3, "x"),
    ]


def _large_model(folder: Path) -> Path:
    """A chain of MatMuls whose weights lie in one file beside the model, written one at a time."""
    import numpy as np
    from onnx import TensorProto, helper

    rng, weights = np.random.default_rng(0), []
    row = rng.normal(0, WIDTH**-0.5, (64, WIDTH)).astype(np.float32)
    with (folder / "weights.bin").open("wb") as file:
        for k in range(LAYERS):
            tensor = TensorProto(name=f"w{k}", data_type=TensorProto.FLOAT, dims=(WIDTH, WIDTH))
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": "weights.bin", "offset": str(file.tell()), "length": str(WIDTH * WIDTH * 4)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=value)
            weights.append(tensor)
            for _ in range(WIDTH // 64):
                file.write(rng.permuted(row, axis=1).tobytes())
    nodes = [
        helper.make_node("MatMul", [f"h{k}" if k else "x", f"w{k}"], [f"h{k + 1}"]) for k in range(LAYERS)
    ]
    nodes.append(helper.make_node("Identity", [f"h{LAYERS}"], ["y"]))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


PARTS: Mapping[str, Callable[[Path], list[Figure]]] = {"collect": collect, "report": report, "model": model}


def main(names: list[str]) -> int:
    """Take each figure in a process of its own."""
    missed = 0
    for name in names or PARTS:
        command = [sys.executable, "-m", "benchmarks.scale", "--child", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        figures = [Figure(**one) for one in json.loads(done.stdout.splitlines()[-1])]
        missed += sum(figure.value > figure.bound for figure in figures)
        print(*figures, sep="\n", flush=True)
    return bool(missed)


def _child(name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="trt-harness-scale-", dir=os.environ.get("TMPDIR")) as folder:
        print(json.dumps([figure.__dict__ for figure in PARTS[name](Path(folder))]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2])
    else:
        text = f"one of {', '.join(PARTS)} (default: all)"
        parts = {"nargs": "*", "type": one_of(PARTS), "metavar": "PART", "help": text}
        sys.exit(main(arguments(__file__, __doc__, parts=parts).parts))
