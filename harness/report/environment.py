"""Where a run took place: versions and machine, without importing any runtime."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import psutil

from harness import __version__
from harness.options import Options

RUNTIMES = (
    "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu13-libs",
)  # fmt: skip
PACKAGES = (
    *RUNTIMES, "numpy", "onnx", "onnx-ir", "cuda-python", "cuda-bindings", "pycuda", "nvidia-ml-py",
    "pytest", "pytest-benchmark", "scipy",
)  # fmt: skip

MODULES = {
    "onnxruntime": "onnxruntime", "onnxruntime-gpu": "onnxruntime",
    "tensorrt": "tensorrt", "tensorrt-cu12": "tensorrt", "tensorrt-cu13": "tensorrt",
}  # fmt: skip
"""Modules by the packages that give them."""


def environment(options: Options) -> dict[str, Any]:
    """Versions, processor, memory in bytes; device and driver are in the manifests of the engines."""
    return {
        "harness": __version__,
        "backend": options.backend,
        "provider": options.provider or "",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": versions(PACKAGES),
    }


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of those of `names` that are installed.

    A runtime that is imported already is asked itself: it may be a copy that no metadata describes.
    """
    found = {name: _version(name) for name in names}
    return {name: version for name, version in found.items() if version}


def processor() -> str:
    """The processor's model name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return next(iter(names), platform.processor() or platform.machine())


def _version(name: str) -> str | None:
    installed, module = _installed(name), MODULES.get(name, "")
    givers = [package for package, given in MODULES.items() if given == module]
    if installed or (name == module and not any(map(_installed, givers))):
        found: str | None = getattr(sys.modules.get(module), "__version__", installed)
        return found
    return None


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
