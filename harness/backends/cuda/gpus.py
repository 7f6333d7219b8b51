"""GPUs and processors shared out among the workers of pytest-xdist, a GPU to each; no runtime is imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import processors
from harness.errors import BackendUnavailableError
from harness.isolation import start

CPU_PROVIDER = "CPUExecutionProvider"
SMI_S = 60.0
GPU, CPUS = "trt_gpu", "trt_cpus"
"""Keys of what a worker is told: its GPU as CUDA names it, and the numbers of its processors."""


def uses_gpus(backend: str, provider: str | None) -> bool:
    """Whether engines of a backend as asked for (see `Options`) run on GPUs, if there are any."""
    if provider is not None:
        return provider != CPU_PROVIDER
    if backend == "auto":
        return any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx"))
    return backend != "onnxruntime"


def gpu_names() -> tuple[str, ...]:
    """The GPUs that CUDA may use in this process, by the names that CUDA_VISIBLE_DEVICES takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(_valid(visible.split(",")))
    lines = asked_of_smi("--query-gpu=uuid", "--format=csv,noheader")
    return tuple(line.strip() for line in lines if line.strip().startswith("GPU-"))


def asked_of_smi(*arguments: str) -> list[str]:
    """The lines that nvidia-smi answers; none where it is not installed or fails.

    Raises BackendUnavailableError where it hangs, as it does with a driver that is stuck.
    """
    tool = start.tool("nvidia-smi")
    if tool is None:
        return []
    command = [tool, *arguments]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SMI_S, cwd=start.NEUTRAL
        )
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailableError(f"nvidia-smi did not answer within {SMI_S:g} s: {tool}") from error
    return answer.stdout.splitlines() if answer.returncode == 0 else []


def _valid(names: Sequence[str]) -> list[str]:
    """CUDA takes the names up to the first that is none."""
    found: list[str] = []
    for name in (part.strip() for part in names):
        if not name or name.startswith("-"):
            break
        found.append(name)
    return found


@dataclass
class Pool:
    """Who has which GPU: the one that fewest workers have, the first of them.

    A worker that takes the place of a crashed one gets its GPU.
    """

    names: tuple[str, ...]
    workers: int
    cpus: tuple[int, ...] = ()
    _held: dict[str, int] = field(default_factory=dict)

    def take(self, worker: str) -> dict[str, Any]:
        """What `worker` is told; empty without GPUs."""
        if not self.names:
            return {}
        seats = range(max(self.workers, 1))
        seat = min(seats, key=lambda number: (list(self._held.values()).count(number), number))
        self._held[worker] = seat
        told: dict[str, Any] = {GPU: self.names[seat % len(self.names)]}
        return told | ({CPUS: list(share(self.cpus, seat, len(seats)))} if len(seats) > 1 else {})

    def give_back(self, worker: str) -> None:
        """`worker` has ended."""
        self._held.pop(worker, None)


def share(cpus: Sequence[int], seat: int, seats: int) -> Sequence[int]:
    """The processors of seat number `seat` of `seats`: neighbours, at least one."""
    if len(cpus) < seats:
        return cpus[seat % len(cpus) :][:1] if cpus else ()
    start, end = (len(cpus) * part // seats for part in (seat, seat + 1))
    return cpus[start:end]


def settle(told: Mapping[str, Any], environment: MutableMapping[str, str]) -> None:
    """Let this process, which has not used CUDA yet, see only what it was told."""
    if GPU in told:
        environment["CUDA_VISIBLE_DEVICES"] = told[GPU]
    if told.get(CPUS) and processors.restrict(told[CPUS]):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setdefault(name, str(len(told[CPUS])))
