"""What GPUs an engine of TensorRT-RTX is for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.backends.tensorrt import backend as tensorrt
from harness.backends.tensorrt import rtx as trt_rtx
from harness.backends.tensorrt.audit.record import read_task
from harness.backends.tensorrt.backend import TensorRTBackend
from harness.errors import BuildError, NotHonouredError
from harness.precision import Precision
from tests.helpers.tensorrt import request, rtx

API: Any = SimpleNamespace(
    ComputeCapability=SimpleNamespace(
        __members__={
            name: SimpleNamespace(name=name) for name in ("NONE", "CURRENT", "SM75", "SM80", "SM89", "SM120")
        }
    )
)


def test_gpus_that_rtx_does_not_serve_are_named() -> None:
    assert trt_rtx.gpu_refusal(API, "8.9") is trt_rtx.gpu_refusal(API, "12.0") is None
    found = trt_rtx.gpu_refusal(API, "9.0")
    assert found == "it runs on GPUs of compute capability 7.5, 8.0, 8.9, 12.0, not 9.0"


@pytest.mark.parametrize(
    ("here", "targets"), [("7.5", ("7.5",)), ("8.9", ()), ("12.0", ()), ("9.0", ()), ("", ())]
)
def test_a_gpu_that_a_builder_left_alone_misses_is_the_target(here: str, targets: tuple[str, ...]) -> None:
    assert trt_rtx.targets_for(API, here) == targets


class Config:
    """An IBuilderConfig that keeps targets, or answers as told."""

    num_compute_capabilities = 0

    def __init__(self, taken: bool = True, got: str | None = None) -> None:
        self.taken, self.got, self.targets = taken, got, {}

    def set_compute_capability(self, member: Any, index: int) -> bool:
        self.targets[index] = member
        return self.taken

    def get_compute_capability(self, index: int) -> Any:
        return API.ComputeCapability.__members__[self.got] if self.got else self.targets[index]


@pytest.mark.parametrize("config", [Config(taken=False), Config(got="SM80")])
def test_a_target_that_the_builder_changes_is_an_error(config: Any) -> None:
    with pytest.raises(NotHonouredError, match=r"compute_capabilities: asked for 8\.9, the builder made it"):
        trt_rtx.set_targets(API, config, ["8.9"])


def test_a_plan_for_other_gpus_is_refused_by_name() -> None:
    assert trt_rtx.plan_refusal((), "7.5") is trt_rtx.plan_refusal(("7.5", "8.9"), "7.5") is None
    found = trt_rtx.plan_refusal(("8.0", "8.9"), "7.5")
    assert found == "built for compute capability 8.0, 8.9, this GPU has 7.5"


def _backend() -> TensorRTBackend:
    return TensorRTBackend(rtx().name, isolate=False)


def test_the_builder_builds_for_the_targets_of_the_spec(tmp_path: Path) -> None:
    _backend().build(request(Precision.BF16, compute_capabilities=["8.9"]), tmp_path)
    assert read_task(tmp_path).options.compute_capabilities == ("8.9",)
    with pytest.raises(BuildError, match=r"target.* sm75"):  # Turing has no BF16
        _backend().build(request(Precision.BF16, compute_capabilities=["7.5"]), tmp_path)


def test_on_turing_engines_are_for_turing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu_facts", lambda: {"gpu": "GPU", "compute_capability": "7.5"})
    _backend().build(request(Precision.FP16), tmp_path)
    assert read_task(tmp_path).options.compute_capabilities == ("7.5",)
