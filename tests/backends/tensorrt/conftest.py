"""An engine opened on doubles of TensorRT and of the GPU."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from harness.backends.tensorrt.run.engine import TensorRTEngine
from tests.helpers.trt_double import Faults, HostDevice, double
from tests.helpers.trt_engine import PROFILES, Opener, relu_and_sum


@pytest.fixture(name="opened")
def _opened(tmp_path: Path) -> Opener:
    def opened(
        source: ir.Model | None = None, faults: Faults | None = None, limit: int = 1 << 20
    ) -> TensorRTEngine:
        plan = tmp_path / "engine.plan"
        bindings, device, _ = double(source or relu_and_sum(), PROFILES, faults, HostDevice(limit), plan)
        return TensorRTEngine.open(bindings, plan, device)

    return opened
