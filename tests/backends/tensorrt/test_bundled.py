"""Every bundled model, built by the real TensorRT-RTX builder at every precision, FP32 nodes in FP32."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.backends.tensorrt.audit.record import read_layers
from harness.backends.tensorrt.backend import TensorRTBackend
from harness.engines.subject import Subject
from harness.precision import Precision
from harness.spec.assets import missing
from harness.spec.file import find_specs, read_spec
from harness.spec.model_spec import ModelSpec
from harness.storage.cache import Cache
from tests.helpers.tensorrt import rtx

MODELS = Path(__file__).parents[3] / "suites" / "models"
SPECS = [spec for path in find_specs([MODELS]) if not missing(spec := read_spec(path))]
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT8_FP16)


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_precision_builds_with_fp32_nodes_in_fp32(spec: ModelSpec, tmp_path: Path) -> None:
    subject = Subject(spec, TensorRTBackend(rtx().name), Cache(tmp_path))
    for precision in PRECISIONS:
        built = subject.engine(precision)
        audit = built.manifest.audit
        assert audit.problems == (), f"{spec.name}[{precision}]"
        network, _ = read_layers(built.folder)
        kept = {layer.node: layer for layer in network if layer.node in audit.fp32_kept}
        assert not {t.dtype for layer in kept.values() for t in layer.outputs} & {"HALF", "BF16"}


def test_the_transformer_that_overflows_keeps_its_nodes(tmp_path: Path) -> None:
    spec = read_spec(MODELS / "overflow_transformer" / "spec.toml")
    subject = Subject(spec, TensorRTBackend(rtx().name, isolate=False), Cache(tmp_path))
    audit = subject.engine(Precision.FP16).manifest.audit
    assert audit.problems == ()
    assert set(audit.fp32_kept) == set(spec.of(Precision.FP16).fp32_nodes)
    assert len(audit.fp32_kept) == 5
