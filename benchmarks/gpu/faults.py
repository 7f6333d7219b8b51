"""Faults on a real GPU: each must be a clear error that costs its own case, nothing else.

    python benchmarks/gpu/faults.py --out FILE.json

1. CUDA_VISIBLE_DEVICES is empty: one line, exit code 4, no build.
2. Memory runs out while an engine is built, while it runs, and when other processes hold it: the error says
   so and how much was asked; the same engine, and the next, go on.
3. A kernel writes where it must not: the GPU is lost to that worker, the case says so, a new worker runs the
   other cases, and every record is kept.
4. A context is current already: torch in the same process, and a context made by hand; both work afterwards.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import CUDA, environment, here, options, plugin, where, write

BAD_KERNEL = """\
.version 7.0
.target sm_50
.address_size 64
.visible .entry bad() {
    .reg .b64 %place;
    .reg .b32 %value;
    mov.u64 %place, 16;
    mov.u32 %value, 1;
    st.global.u32 [%place], %value;
    ret;
}
"""
CRASH = '''\
"""Engines run; the one at FP32 after a kernel that destroys the context."""
KERNEL = {kernel!r}


def test_outputs(case, built, feeds):
    shapes = {{name: part.opt for name, part in case.spec.profiles[0].shapes.items()}}
    with built.open("deployed") as engine:
        engine.run(feeds.feed(shapes))
        if case.precision == "fp32":
            from cuda.bindings import driver

            _, module = driver.cuModuleLoadData(KERNEL.encode() + b"\\0")
            _, function = driver.cuModuleGetFunction(module, b"bad")
            driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
        engine.run(feeds.feed(shapes))
'''
Step = Callable[[Path], str]


def project(folder: Path) -> Path:
    """A checkout in little: two precisions of a small model."""
    from tests.helpers.project import write_project

    folder.mkdir()
    write_project(folder, "outputs")
    return folder


def pytest_in(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """One run of the suites of a project."""
    command = [sys.executable, "-m", "pytest", *plugin(), "suites", f"--trt-provider={CUDA}", *arguments]
    env = environment(TRT_HARNESS_CACHE=str(folder / "cache"), **more)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The end of what a run wrote, for the message of a failure."""
    return f"exit code {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}"


def no_gpu(folder: Path) -> str:
    """Step 1."""
    done = pytest_in(project(folder / "p"), CUDA_VISIBLE_DEVICES="")
    line = next((text for text in (done.stdout + done.stderr).splitlines() if "hides every GPU" in text), "")
    assert done.returncode == 4, told(done)
    assert line, told(done)
    return line.strip()


def built(folder: Path, **fields: Any) -> tuple[Any, Path, Any]:
    """A backend, an engine of a wide layer in `folder`, and how to make feeds of some rows."""
    import numpy as np
    from onnx import TensorProto, helper

    from benchmarks.models import Builder
    from harness.backends.base import BuildRequest
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
    from harness.graph import file as onnx_file
    from harness.lowering.lower import lower
    from harness.lowering.passes.normalise import normalise
    from harness.precision import Precision, PrecisionPlan
    from harness.spec.model_spec import BuildSpec, Profile, ShapeRange

    b = Builder(0)
    b.op("Relu", b.op("MatMul", "x", b.weight(4096, 4096)))
    model = b.model([helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4096])], "y", ["N", 4096])
    source = folder / "wide.onnx"
    source.write_bytes(model.SerializeToString())
    lowered = lower(normalise(onnx_file.read(source)), PrecisionPlan(Precision.FP32))
    shapes = {"x": ShapeRange(min=(1, 4096), opt=(8, 4096), max=(1 << 20, 4096))}
    place = folder / f"engine-{len(list(folder.iterdir()))}"
    place.mkdir()
    backend = OnnxRuntimeBackend(CUDA, **fields)
    backend.build(BuildRequest("wide", lowered, (Profile(shapes=shapes),), BuildSpec()), place)
    return backend, place, lambda rows: {"x": np.ones((rows, 4096), np.float32)}


def expected(error: type[Exception], call: Callable[[], object], *words: str) -> str:
    """The words of the error that `call` must raise."""
    try:
        call()
    except error as raised:
        said = str(raised)
        assert all(word in said for word in words), f"{words} expected in: {said}"
        return said[:300]
    raise AssertionError(f"{error.__name__} expected, nothing was raised")


def memory_building(folder: Path) -> str:
    """Step 2, building: the arena may take 16 MB, the weights are 64 MB."""
    from harness.errors import BuildError

    little = {"gpu_mem_limit": str(16 << 20), "arena_extend_strategy": "kSameAsRequested"}
    said = expected(BuildError, lambda: built(folder, provider_options=little), "out of device memory")
    backend, place, feeds = built(folder)
    with backend.load(place, "verified") as engine:
        engine.run(feeds(8))
    return said


def memory_running(folder: Path) -> str:
    """Step 2, running: 1 GB of input where the arena may take 256 MB, plain and between device buffers."""
    from harness.errors import RunError

    little = {"gpu_mem_limit": str(256 << 20), "arena_extend_strategy": "kSameAsRequested"}
    backend, place, feeds = built(folder, provider_options=little)
    said = []
    for face in ("verified", "deployed"):
        with backend.load(place, face) as engine:
            engine.run(feeds(8))
            said.append(expected(RunError, lambda e=engine: e.run(feeds(1 << 16)), "out of device memory"))
            engine.run(feeds(8))
    return " // ".join(said)


def memory_taken(folder: Path) -> str:
    """Step 2, memory held by somebody else: all but 600 MB of the device."""
    from harness.backends.cuda.device import open_device
    from harness.errors import RunError

    backend, place, feeds = built(folder)
    with backend.load(place, "deployed") as engine:
        engine.run(feeds(8))
        hog = open_device()
        free, _ = hog.memory()
        held = hog.allocate(free - (600 << 20))
        said = expected(
            RunError, lambda: engine.run(feeds(1 << 16)), "out of device memory", "bytes are free"
        )
        hog.free(held)
        hog.close()
        engine.run(feeds(1 << 12))
    return said


def lost_device(folder: Path) -> str:
    """Step 3."""
    place = project(folder / "p")
    (place / "suites" / "test_outputs.py").write_text(CRASH.format(kernel=BAD_KERNEL))
    done = pytest_in(place, "-n1", "-p", "no:cacheprovider")
    reports = list(place.glob("reports/*"))
    assert len(reports) == 1, f"{len(reports)} reports: {told(done)}"
    report = reports[0]
    found = json.loads((report / "results.json").read_text())
    by_case = {(record["precision"], record["verdict"]): record["message"] for record in found["records"]}
    said = by_case.get(("fp32", "error"), "")
    outcomes = {test["nodeid"]: test["outcome"] for test in found["tests"]}
    assert "the GPU is lost to this process" in " ".join(by_case.values()), f"{by_case} {told(done)}"
    assert any("fp16" in name and outcome == "passed" for name, outcome in outcomes.items()), outcomes
    assert "replacing crashed worker" in done.stdout, told(done)
    return f"{' '.join(said.split())[:300]} // {outcomes}"


def torch_here(folder: Path) -> str:
    """Step 4, torch first, then engines through each binding, then torch again."""
    import numpy as np

    try:
        import torch
    except ImportError:
        return "not tried: torch is not installed"
    from harness.backends.cuda import device

    mine = torch.ones(1 << 20, device="cuda")
    _, place, feeds = built(folder)
    results = []
    for binding in device.installed():
        from harness.backends.onnxruntime.backend import OnnxRuntimeBackend

        with OnnxRuntimeBackend(CUDA, cuda=binding).load(place, "deployed") as engine:
            results.append(engine.run(feeds(8))["y"])
            (run,) = engine.residents([feeds(8)])
            run()
            assert float((mine + 1).sum()) == 2 << 20
            np.testing.assert_array_equal(run.fetch()["y"], results[-1])
            del run
        assert float((mine * 3).sum()) == 3 << 20
    assert all(np.array_equal(results[0], other) for other in results)
    return f"torch {torch.__version__} and {', '.join(device.installed())}: same outputs, torch goes on"


def own_context(folder: Path) -> str:
    """Step 4, a context that is not the primary one."""
    from cuda.bindings import driver

    from harness.backends.cuda import device
    from harness.backends.onnxruntime.backend import OnnxRuntimeBackend

    _, place, feeds = built(folder)
    driver.cuInit(0)
    make = driver.cuCtxCreate
    try:
        status, context = make(None, 0, 0)  # CUDA 13's has parameters of the context first
    except TypeError:
        status, context = make(0, 0)
    assert int(status) == 0, status
    for binding in device.installed():
        with OnnxRuntimeBackend(CUDA, cuda=binding).load(place, "deployed") as engine:
            engine.run(feeds(8))
        _, now = driver.cuCtxGetCurrent()
        assert int(now) == int(context), f"{binding}: another context is current afterwards"
    driver.cuCtxDestroy(context)
    return f"{', '.join(device.installed())}: engines run, the context is current again afterwards"


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (no_gpu, memory_building, memory_running, memory_taken, lost_device, torch_here, own_context)
}


def main() -> int:
    """Each step in a process of its own; 1 where one is not as it must be."""
    args = options(__doc__, step={"choices": list(STEPS), "help": "one step, in this process"})
    if args.step:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(STEPS[args.step](Path(folder)))
            except Exception:  # noqa: BLE001 - whatever it is, the step has failed
                traceback.print_exc()
                return 1
        return 0
    print(here(), flush=True)
    figures = {}
    for name in STEPS:
        command = [sys.executable, __file__, "--step", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        good = done.returncode == 0
        said = (
            done.stdout.strip().splitlines()[-1:]
            if good
            else (done.stderr + done.stdout)[-3000:].splitlines()
        )
        figures[name] = {"good": good, "said": said}
        print(f"{'ok  ' if good else 'FAIL'} {name}: " + "\n     ".join(said), flush=True)
        write(args.out, {"where": where(), "steps": figures})
    return 0 if all(one["good"] for one in figures.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
