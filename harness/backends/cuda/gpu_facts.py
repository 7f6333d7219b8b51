"""What hardware an ONNX Runtime provider runs on."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

from harness.backends.cuda.gpus import asked_of_smi
from harness.backends.cuda.presence import gpu_uuid

CPU_INFO = Path("/proc/cpuinfo")
GPU_FIELDS = {
    "name": "gpu",
    "driver_version": "driver",
    "compute_cap": "compute_capability",
    "uuid": "gpu_uuid",
}


@functools.cache
def cpu_name() -> str:
    """The processor's name as the operating system gives it."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def visible_gpu(index: int) -> str | None:
    """What `nvidia-smi` calls the GPU that CUDA numbers `index` in this process; None if it sees no such.

    Its UUID, where CUDA tells it; else what CUDA_VISIBLE_DEVICES says, or the number.
    """
    if uuid := gpu_uuid(index):
        return uuid
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return str(index)
    names = [name.strip() for name in visible.split(",")]
    return names[index] or None if index < len(names) else None


@functools.cache
def gpu_facts(index: int = 0) -> dict[str, str]:
    """Name, driver, compute capability and UUID of the GPU that CUDA numbers `index`; empty without one.

    Raises BackendUnavailableError where nvidia-smi hangs.
    """
    name = visible_gpu(index)
    if name is None:
        return {}
    query = (f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader", f"--id={name}")
    values = [value.strip() for line in asked_of_smi(*query)[:1] for value in line.split(",")]
    return dict(zip(GPU_FIELDS.values(), values, strict=True)) if len(values) == len(GPU_FIELDS) else {}
