"""What works on this machine, what each backend can do here, and the classic traps by name."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from harness import processors
from harness.backends import packages
from harness.doctor.system import stand_ins
from harness.errors import BackendError, HarnessError

State = Literal["ok", "no", "trap"]
PACKAGES = (
    *packages.DISTRIBUTIONS,
    "tensorrt",
    "tensorrt-cu12-bindings",
    "tensorrt-cu13-bindings",
    "tensorrt-rtx-cu12-bindings",
    "tensorrt-rtx-cu13-bindings",
    "cuda-python",
    "pycuda",
    "polygraphy",
)
PRODUCTS = ("tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13")
PAIRS = tuple((f"{name}-bindings", f"{name}-libs") for name in PRODUCTS)
NO_GPU = "nvidia-smi finds none: engines build with TensorRT-RTX, and run on ONNX Runtime"


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.  `trap`: something is set up wrongly; the text says the cure."""

    state: State
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<5} {self.subject:<16} {self.text}"


def examine(engines: Iterable[Path] = ()) -> list[Finding]:
    """Everything worth knowing here; of each engine (plan file or folder) whether it fits."""
    installed = installed_versions(PACKAGES + tuple(name for pair in PAIRS for name in pair))
    found = [Finding("ok", "python", f"{platform.python_version()} on {platform.platform()}")]
    found.append(_processors())
    found += [Finding("no", "system", text) for text in stand_ins()]
    found += [Finding("ok", name, installed[name]) for name in PACKAGES if name in installed]
    found += package_traps(installed)
    found += _gpu()
    for name in ("onnxruntime", "tensorrt", "tensorrt_rtx"):
        found += _backend(name)
    return found + [_engine(path) for path in engines]


def _processors() -> Finding:
    fewer = processors.limited()
    few = f"{fewer} of {os.cpu_count()}: affinity or the container's CPU limit leaves no more"
    return Finding("ok", "processors", str(processors.usable()) if fewer is None else few)


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of the named distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def package_traps(installed: dict[str, str]) -> Iterator[Finding]:
    """Packages that do not go together."""
    if both := packages.clash(tuple(name for name in packages.DISTRIBUTIONS if name in installed)):
        yield Finding("trap", "onnxruntime", both)
    for bindings, libraries in PAIRS:
        ours, theirs = installed.get(bindings), installed.get(libraries)
        if ours and theirs and ours != theirs:
            text = f"{ours}, but {libraries} is {theirs}: install the same version of both"
            yield Finding("trap", bindings, text)


def _gpu() -> Iterator[Finding]:
    from harness.backends.cuda import device
    from harness.backends.cuda.gpu_facts import gpu_facts

    facts = gpu_facts()
    if facts:
        about = f"compute capability {facts.get('compute_capability')}, driver {facts.get('driver')}"
        yield Finding("ok", "gpu", f"{facts.get('gpu')}, {about}")
    else:
        yield Finding("no", "gpu", NO_GPU)
    for binding in device.installed():
        yield _context(binding, gpu=bool(facts))


def _context(binding: str, *, gpu: bool) -> Finding:
    """Whether a CUDA context can be made through `binding`."""
    from harness.backends.cuda import device

    try:
        opened = device.open_device(binding)  # type: ignore[arg-type]
    except BackendError as error:
        state: State = "trap" if gpu else "no"
        return Finding(state, binding, f"no CUDA context: {error}")
    info = opened.info()
    opened.close()
    return Finding("ok", binding, f"makes a CUDA context on {info.name}; the driver has CUDA {info.cuda}")


def _backend(name: str) -> Iterator[Finding]:
    from harness.backends.choose import create

    try:
        backend = create(name)
        info = backend.info()
    except BackendError as error:
        yield Finding("no", name, str(error))
        return
    why = backend.can_run()
    what = "builds and runs" if why is None else f"builds; cannot run: {why}"
    yield Finding("ok" if why is None else "no", name, f"{info.version}, {info.device}: {what}")
    yield from _libraries(name)


def _libraries(name: str) -> Iterator[Finding]:
    """TensorRT's loaded library against its bindings."""
    if name == "onnxruntime":
        return
    from harness.backends.tensorrt.bindings import load_bindings
    from harness.backends.tensorrt.library import loaded_version

    ours, theirs = load_bindings(name).version, loaded_version(name)
    if theirs is not None and ours != theirs[:2]:
        both = f"bindings {ours[0]}.{ours[1]}, library {'.'.join(map(str, theirs))}"
        yield Finding("trap", name, f"{both}: another libnvinfer is found first; look at LD_LIBRARY_PATH")


def _engine(path: Path) -> Finding:
    """Whether an engine was built by what is here, for the GPU that is here; only its record is read."""
    from harness.backends.cuda.gpu_facts import gpu_facts
    from harness.backends.tensorrt.audit.record import read_origin
    from harness.backends.tensorrt.bindings import load_bindings
    from harness.backends.tensorrt.errors import mismatch

    try:
        origin = read_origin(path if path.is_dir() else path.parent)
        here = str(load_bindings(origin.backend).api.__version__)
    except HarnessError as error:
        return Finding("no", path.name, str(error))
    why = mismatch(origin, here, gpu_facts().get("gpu", ""))
    return Finding("trap", path.name, f"{why}: build it again") if why else Finding("ok", path.name, "fits")


def failed(findings: Iterable[Finding]) -> bool:
    """Whether there is a trap among them."""
    return any(finding.state == "trap" for finding in findings)
