"""Every operator of ONNX's own test cases: what TensorRT-RTX parses in FP32, it parses lowered to 16 bits."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from harness.backends.tensorrt.bindings import Bindings
from harness.backends.tensorrt.builder.strong import create_network
from harness.backends.tensorrt.log import create_log
from harness.backends.tensorrt.network import parse_onnx
from harness.errors import BuildError, HarnessError, ModelError
from harness.graph import file as onnx_file
from harness.lowering.lower import lower
from harness.lowering.passes.normalise import normalise
from harness.precision import Precision, PrecisionPlan
from tests.helpers.tensorrt import rtx

FLOAT = onnx.TensorProto.FLOAT


def cases() -> list[Any]:
    """ONNX's node tests with a FP32 input, one for each name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [case for case in collect_testcases(None) if case.model is not None]
    return [c for c in found if FLOAT in [i.type.tensor_type.elem_type for i in c.model.graph.input]]


def refusal(bindings: Bindings, model: ir.Model, path: Path) -> str:
    """The parser's words; empty if it takes the model."""
    onnx_file.write(model, path)
    log = create_log(bindings.api)
    builder = bindings.api.Builder(log)
    network = create_network(bindings.api, builder)
    parser = bindings.api.OnnxParser(network, log)
    try:
        parse_onnx(parser, log, path)
    except BuildError as error:
        return str(error)
    finally:
        del parser  # before the network that it writes to
    return ""


def normalised(case: Any, path: Path) -> ir.Model | None:
    """The case's model; None where it is refused."""
    onnx.save(case.model, path)
    try:
        return normalise(onnx_file.read(path))
    except HarnessError:
        return None


def halves(model: ir.Model) -> dict[Precision, ir.Model]:
    """The model in FP16 and BF16, where that is not refused and changes something."""
    found = {}
    for precision in (Precision.FP16, Precision.BF16):
        with contextlib.suppress(ModelError):
            result = lower(model, PrecisionPlan(precision))
            if result.summary.lowered:
                found[precision] = result.model
    return found


@pytest.mark.slow
def test_what_parses_in_fp32_parses_in_16_bits(tmp_path: Path) -> None:
    bindings, path, refused, parsed = rtx(), tmp_path / "m.onnx", [], 0
    for case in cases():
        plain = normalised(case, path)
        if plain is None or refusal(bindings, plain, path):
            continue
        for precision, half in halves(plain).items():
            parsed += 1
            if why := refusal(bindings, half, path):
                refused.append(f"{case.name} {precision}: {why}")
    assert refused == []
    assert parsed > 600
