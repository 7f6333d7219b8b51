"""Throughput of the accuracy suites on 1, 2 and 4 GPUs of one machine: `pytest suites/ -n`, builds included.

    python benchmarks/gpu/multi_gpu.py --out FILE.json [--cache FOLDER] [--generated 12] [--gpus 1 2 4]

Each run starts with an empty cache of engines, scales and references and ends with its merged report; what
is timed is the whole process.  Besides the bundled and fetched models there are `--generated` ResNet-50-sized
ones, each with weights and data of its own, so that there is enough to share out.  A run on n of the
machine's N GPUs may use n shares of its processors, a share being one N-th.  One small model runs before,
untimed, so that no run waits for the disk to read CUDA's libraries.  With `--reports` a run finds the reports
of those before it, which tell how long cases take, as a nightly run does.  `busy` is the workers'
share of time in tests; the rest is start-up, reports and waiting for the last.  Targets: 2 GPUs 1.8
times, 4 GPUs 3.4 times the cases per second of one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from common import ROOT, environment, here, options, table, where, write

TARGETS = {2: 1.8, 4: 3.4}
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")
SUITES = ("suites/test_engines.py", "suites/test_outputs.py", "suites/test_accuracy.py")
LISTS = ("verdicts", "models", "not_passed", "durations")
WARM_UP = "tabular_mlp"
GOOD = ("passed", "skipped", "xfailed")
SPEC = """\
name = "{name}"
description = "ResNet-50-sized, generated weights"
precisions = ["fp32", "fp16", "int8"]
model.onnx = "model.onnx"
inputs.image = {{ dtype = "float32", data = {{ generator = "normal", seed = {seed} }} }}

[[profiles]]
shapes.image = {{ min = [1, 3, 224, 224], opt = [4, 3, 224, 224], max = [8, 3, 224, 224] }}

# Noise through random weights: what is compared here is throughput.
[precision.int8]
calibration = {{ method = "minmax", samples = 8 }}
tolerance = {{ expected = 0.5, limit = 1.0 }}
"""


def generate(folder: Path, count: int) -> None:
    """Specs and models that no cache can take for each other."""
    from benchmarks.models import resnet50

    for seed in range(count):
        place = folder / f"generated_{seed}"
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(resnet50(seed).SerializeToString())
        (place / "spec.toml").write_text(SPEC.format(name=f"generated_{seed}", seed=seed))


def specs(folder: Path, count: int) -> list[str]:
    """`--trt-spec` for the generated models and for all others that are here."""
    from harness.spec import assets
    from harness.spec.file import find_specs, read_spec

    generate(folder, count)
    bundled = find_specs([ROOT / "suites" / "models"])
    found = [path for path in bundled if not assets.missing(read_spec(path))]
    return [f"--trt-spec={path}" for path in [*found, *([folder] if count else [])]]


def run(
    gpus: tuple[str, ...], cpus: list[int], chosen: list[str], provider: str, reports: Path | None
) -> dict[str, Any]:
    """One run with an empty cache; its report goes below `reports`."""
    from harness.report import results

    with tempfile.TemporaryDirectory() as name:
        reports = reports or Path(name, "reports")
        before = set(reports.glob("*"))
        command = [
            *(sys.executable, "-m", "pytest", *SUITES, "-q", "--tb=line", f"-n{len(gpus)}"),
            *(f"--trt-provider={provider}", f"--trt-cache-dir={name}/cache"),
            f"--trt-report-dir={reports}",
            *(f"--trt-precision={precision}" for precision in PRECISIONS),
            *chosen,
        ]
        begun = time.monotonic()
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(CUDA_VISIBLE_DEVICES=",".join(gpus)),
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - begun
        new = next((path for path in reports.glob("*") if path not in before), None)
        found = results.read(new) if new else None
    unlike = [f"{t.outcome} {t.nodeid}" for t in (found.tests if found else ()) if t.outcome not in GOOD]
    spent: dict[str, float] = defaultdict(float)
    for test in found.tests if found else ():
        spent[test.nodeid.partition("::")[0]] += test.duration_s
    print("\n".join([*unlike, *done.stdout.splitlines()[-1:]]), flush=True)
    if done.returncode:
        print(f"exit code {done.returncode}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}", flush=True)
    records = found.records if found else ()
    cases = {(record.model, record.precision) for record in records if record.kind == "outputs"}
    verdicts = Counter(f"{record.kind} {record.verdict}" for record in records)
    return {
        "gpus": len(gpus),
        "cpus": len(cpus),
        "seconds": seconds,
        "cases": len(cases),
        "cases_per_s": len(cases) / seconds,
        "busy": sum(spent.values()) / seconds / len(gpus),
        "test_seconds": {suite: round(duration, 1) for suite, duration in spent.items()},
        "exit": done.returncode,
        "models": sorted({model for model, _ in cases}),
        "not_passed": unlike,
        "durations": {test.nodeid: round(test.duration_s, 2) for test in (found.tests if found else ())},
        "verdicts": dict(sorted(verdicts.items())),
    }


def main() -> int:
    """Print and keep the figures; 1 where a target is missed."""
    args = options(
        __doc__,
        generated={"type": int, "default": 12, "help": "how many generated models"},
        reports={"type": Path, "help": "where reports stay (default: nowhere)"},
        gpus={"nargs": "+", "type": int, "default": [1, 2, 4], "help": "how many GPUs to run on, one by one"},
    )
    from harness.backends.cuda.gpus import gpu_names

    print(here(), flush=True)
    names, cpus = gpu_names() or ("0",), sorted(os.sched_getaffinity(0))
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = specs(Path(folder), args.generated)
        run(names[:1], cpus, [f"--trt-spec={ROOT / 'suites' / 'models' / WARM_UP}"], args.provider, None)
        for count in [n for n in args.gpus if n <= len(names)]:
            share = cpus[: max(1, len(cpus) * count // len(names))]
            found.append(run(names[:count], share, chosen, args.provider, args.reports))
            print({key: value for key, value in found[-1].items() if key not in LISTS}, flush=True)
            write(args.out, {"where": where(), "gpus_here": len(names), "runs": found})
    base = next((one["cases_per_s"] for one in found if one["gpus"] == 1), None)
    rows, good = [], all(one["exit"] == 0 for one in found)
    for one in found:
        times = one["cases_per_s"] / base if base else float("nan")
        target = TARGETS.get(one["gpus"], 0.0)
        good &= times >= target
        figures = (
            one["gpus"],
            one["cpus"],
            one["cases"],
            f"{one['seconds']:.0f} s",
            f"{one['cases_per_s']:.2f}",
            f"{one['busy']:.0%}",
        )
        rows.append([*figures, f"{times:.2f}", target or "", one["exit"]])
    print(
        table(["GPUs", "CPUs", "cases", "wall", "cases/s", "busy", "times one GPU", "target", "exit"], rows)
    )
    print("within all targets" if good else "MISSED a target")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
