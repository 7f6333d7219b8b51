"""ONNX Runtime's CUDA provider: is TF32 off for FP32, do device buffers change nothing, are the suites green?

    python benchmarks/gpu/accuracy_suite.py --out FILE.json [--cache FOLDER] [--suites]

1. A ResNet-50-sized model at FP32, mean relative error to the CPU: at most 2e-6 with TF32 off; TF32 costs
   about 6e-4.  An FP32 engine with TF32 on must be found.
2. The same engine between device buffers through cuda-python and through pycuda, and as a CUDA graph: bit
   for bit what the plain session returns is wanted; the mean relative difference is shown.
3. With `--suites`: `pytest suites/` at FP32, FP16, INT8 and INT8+FP16 with real kernels.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from common import ROOT, here, options, where, write

PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")
OFF, ON = 2e-6, 1e-4
"""Most with TF32 off; least with it on."""


def tf32(provider: str, folder: Path) -> dict[str, Any]:
    """The errors with TF32 off and on, and the folder of the engine without."""
    import numpy as np

    from benchmarks.models import resnet50
    from harness.backends.base import BuildRequest
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend, open_model
    from harness.graph import file as onnx_file
    from harness.lowering.lower import lower
    from harness.lowering.passes.normalise import normalise
    from harness.precision import Precision, PrecisionPlan
    from harness.spec.model_spec import BuildSpec, Profile, ShapeRange

    source = folder / "resnet50.onnx"
    source.write_bytes(resnet50().SerializeToString())
    model = normalise(onnx_file.read(source))
    feeds = {"image": np.random.default_rng(0).standard_normal((4, 3, 224, 224)).astype(np.float32)}
    with open_model(model) as reference:
        expected = reference.run(feeds)["logits"]
    shape = feeds["image"].shape
    profile = Profile(shapes={"image": ShapeRange(min=shape, opt=shape, max=shape)})
    errors = {}
    for name, on in (("off", False), ("on", True)):
        engine = folder / name
        engine.mkdir()
        plan = PrecisionPlan(Precision.FP32)
        request = BuildRequest("resnet50", lower(model, plan), (profile,), BuildSpec(tf32=on))
        audit = OnnxRuntimeBackend(provider).build(request, engine)
        got = audit.details["deployed"]["provider_options"].get("use_tf32", "absent")
        with OnnxRuntimeBackend(provider).load(engine) as opened:
            errors[name] = {"mre": relative(opened.run(feeds)["logits"], expected), "use_tf32": got}
    return {"errors": errors, "feeds": feeds, "engine": folder / "off"}


def relative(actual: Any, expected: Any) -> float:
    """Mean relative error in float64."""
    import numpy as np

    difference = np.abs(np.asarray(actual, np.float64) - expected)
    return float(difference.sum() / np.abs(np.asarray(expected, np.float64)).sum())


def buffers(provider: str, engine: Path, feeds: Any) -> dict[str, float]:
    """Mean relative difference to the plain session of each way to run between device buffers."""
    from harness.backends.cuda import device
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend

    with OnnxRuntimeBackend(provider).load(engine, "verified") as plain:
        expected = plain.run(feeds)["logits"]
    found: dict[str, float] = {}
    for binding in device.installed():
        for graph in (False, True):
            backend = OnnxRuntimeBackend(provider, cuda=binding, cuda_graph=graph)
            with backend.load(engine, "deployed") as opened:
                (run,) = opened.residents([feeds])
                for _ in range(3):
                    run()
                what = f"{binding}, {'CUDA graph' if graph else 'device run'}"
                found[what] = relative(run.fetch()["logits"], expected)
                found[f"{binding}, {'with graphs, ' if graph else ''}run"] = relative(
                    opened.run(feeds)["logits"], expected
                )
    return found


def suites(provider: str) -> dict[str, Any]:
    """Exit status and verdicts of all suites."""
    with tempfile.TemporaryDirectory() as name:
        chosen = [f"--trt-precision={precision}" for precision in PRECISIONS]
        command = [
            *(sys.executable, "-m", "pytest", "suites", "-q", "--tb=line", "--benchmark-columns=median"),
            *(
                f"--trt-provider={provider}",
                f"--trt-cache-dir={name}/cache",
                f"--trt-report-dir={name}/reports",
            ),
            *chosen,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print("\n".join(done.stdout.splitlines()[-60:]), flush=True)
        from harness.report import results

        (run,) = (Path(name) / "reports").iterdir()
        records = results.read(run).records
    counts = Counter(f"{record.kind} {record.verdict}" for record in records)
    doubts = Counter(doubt for r in records if r.kind == "latency" for doubt in _doubts(r.data))
    return {"exit": done.returncode, "verdicts": dict(sorted(counts.items())), "doubts": dict(doubts)}


def _doubts(data: Any) -> list[str]:
    return list((data.get("host") or {}).get("doubts", ()))


def main() -> int:
    """Print and keep the figures; 1 where one misses its target."""
    args = options(__doc__, suites={"action": "store_true", "help": "run pytest suites/ as well"})
    print(here(), flush=True)
    figures: dict[str, Any] = {"where": where()}
    with tempfile.TemporaryDirectory() as name:
        found = tf32(args.provider, Path(name))
        figures["tf32"] = found["errors"]
        for setting, error in found["errors"].items():
            told = f"use_tf32 {error['use_tf32']}"
            print(f"ResNet-50, FP32, TF32 {setting}: mre {error['mre']:.2e} ({told})", flush=True)
        figures["buffers"] = buffers(args.provider, found["engine"], found["feeds"])
        for what, difference in figures["buffers"].items():
            print(f"{what}: {difference:.1e} from the plain session", flush=True)
    errors = figures["tf32"]
    good = (
        errors["off"]["mre"] <= OFF
        and errors["on"]["mre"] >= ON
        and max(figures["buffers"].values(), default=1) <= OFF
    )
    if args.suites:
        figures["suites"] = suites(args.provider)
        print(figures["suites"], flush=True)
        good = good and figures["suites"]["exit"] == 0
    figures["good"] = good
    write(args.out, figures)
    print("within all targets" if good else "MISSED a target")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
