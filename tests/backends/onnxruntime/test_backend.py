"""ONNX Runtime does what it is asked or says that it does not: faces, precisions, options."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as native

from harness.backends.base import BuildRequest
from harness.backends.onnxruntime import audit as ort_audit
from harness.backends.onnxruntime import backend as backend_module
from harness.backends.onnxruntime import session as ort_session
from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
from harness.backends.onnxruntime.trial import try_face
from harness.errors import BuildError, NotHonouredError, RunError
from harness.lowering.lower import lower
from harness.lowering.model import LoweredModel, LoweringSummary
from harness.precision import Precision, PrecisionPlan
from harness.spec.model_spec import BuildSpec, Profile
from tests.helpers.lowering import model, raw
from tests.helpers.mlp import FEEDS, PROFILES, made_mlp, relative, request_of

CUDA = "CUDAExecutionProvider"
IN_PROCESS = OnnxRuntimeBackend(isolate=False)


@pytest.fixture(scope="module")
def mlp() -> ir.Model:
    return made_mlp()


class TestRefusal:
    @pytest.mark.parametrize("precision", [p for p in Precision if p is not Precision.TF32])
    def test_the_cpu_takes_every_precision_but_tf32(self, precision: Precision) -> None:
        assert OnnxRuntimeBackend().refusal(precision, BuildSpec()) is None

    def test_tf32_is_refused_on_the_cpu(self) -> None:
        assert OnnxRuntimeBackend().refusal(Precision.TF32, BuildSpec()) == "the CPU provider has no TF32"
        assert OnnxRuntimeBackend().refusal(Precision.FP32, BuildSpec(tf32=True)) is not None
        assert OnnxRuntimeBackend(CUDA).refusal(Precision.TF32, BuildSpec()) is None

    @pytest.mark.parametrize(
        "option",
        [
            {"workspace_bytes": 1},
            {"optimization_level": 3},
            {"typing": "weak"},
            {"plugins": ["x.so"]},
            {"dla_core": 0},
            {"hardware_compatibility": "ampere_plus"},
            {"compute_capabilities": ["8.9"]},
        ],
    )
    def test_options_of_tensorrt_are_refused_by_name(
        self, mlp: ir.Model, tmp_path: Path, option: Any
    ) -> None:
        with pytest.raises(NotHonouredError, match=rf"mlp\[fp32\]: build\.{next(iter(option))} is an option"):
            IN_PROCESS.build(request_of(mlp, Precision.FP32, **option), tmp_path)


class TestFaces:
    @pytest.mark.parametrize(
        ("precision", "low", "high"),
        [("fp32", 0, 1e-6), ("fp16", 1e-5, 2e-3), ("bf16", 1e-4, 1e-2), ("int8", 1e-4, 5e-2)],
    )
    def test_the_verified_face_has_the_error_of_its_precision(
        self, mlp: ir.Model, tmp_path: Path, precision: str, low: float, high: float
    ) -> None:
        IN_PROCESS.build(request_of(mlp, Precision(precision)), tmp_path)
        with IN_PROCESS.load(tmp_path) as engine:
            assert low <= relative(engine.run(FEEDS)["y"]) <= high

    def test_fp16_overflow_is_real_on_the_verified_face_and_hidden_on_the_deployed(
        self, tmp_path: Path
    ) -> None:
        """Between nodes, for ONNX Runtime keeps FP32 there whatever the graph says."""
        squares = model("g (float[N] x) => (float[N] y) { [sq] a = Mul(x, x) [rt] y = Sqrt(a) }")
        lowered = lower(squares, PrecisionPlan(Precision.FP16))
        profiles = (Profile.model_validate({"shapes": {"x": [1]}}),)
        IN_PROCESS.build(BuildRequest("squares", lowered, profiles, BuildSpec()), tmp_path)
        feeds = {"x": np.array([300.0], np.float32)}
        with IN_PROCESS.load(tmp_path) as verified, IN_PROCESS.load(tmp_path, "deployed") as deployed:
            assert np.isinf(verified.run(feeds)["y"])
            np.testing.assert_allclose(deployed.run(feeds)["y"], 300, rtol=1e-3)

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8+fp16"])
    def test_the_deployed_face_computes_the_model(
        self, mlp: ir.Model, tmp_path: Path, precision: str
    ) -> None:
        IN_PROCESS.build(request_of(mlp, Precision(precision)), tmp_path)
        with IN_PROCESS.load(tmp_path, "deployed") as engine:
            assert relative(engine.run(FEEDS)["y"]) < 5e-2

    def test_fp32_has_one_face(self, mlp: ir.Model, tmp_path: Path) -> None:
        IN_PROCESS.build(request_of(mlp, Precision.FP32), tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["engine.json", "model.onnx"]

    def test_a_deployed_face_that_cannot_open_is_told_and_is_an_error_to_load(
        self, mlp: ir.Model, tmp_path: Path
    ) -> None:
        found = IN_PROCESS.build(request_of(mlp, Precision.BF16), tmp_path)
        assert "NOT_IMPLEMENTED" in found.details["deployed"]["unavailable"]
        assert found.messages[0].startswith("deployed face does not open")
        with pytest.raises(RunError, match="cannot open the model"):
            IN_PROCESS.load(tmp_path, "deployed")

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
    def test_instrumented_gives_the_outputs_and_the_tensors(
        self, mlp: ir.Model, tmp_path: Path, precision: str
    ) -> None:
        IN_PROCESS.build(request_of(mlp, Precision(precision)), tmp_path)
        with IN_PROCESS.load_instrumented(tmp_path, ["b", "y", "a"]) as engine:
            found = engine.run(FEEDS)
        assert list(found) == ["y", "b", "a"]
        assert relative(found["y"]) < 5e-2

    def test_a_folder_without_an_engine_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="no engine of the ONNX Runtime backend"):
            IN_PROCESS.load(tmp_path)

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_only_what_is_timed_waits_busily(self, mlp: ir.Model, tmp_path: Path, precision: str) -> None:
        IN_PROCESS.build(request_of(mlp, Precision(precision)), tmp_path)
        verified, deployed = (IN_PROCESS._face(tmp_path, face)[1] for face in ("verified", "deployed"))
        assert (verified.spin, deployed.spin) == (False, True)

    def test_tf32_is_off_unless_asked(self) -> None:
        backend = OnnxRuntimeBackend(CUDA)
        assert backend._tf32(False) == {"use_tf32": "0"}
        assert backend._tf32(True) == {"use_tf32": "1"}


class TestBuild:
    def test_a_build_is_tried_in_a_child(self, mlp: ir.Model, tmp_path: Path) -> None:
        found = OnnxRuntimeBackend().build(request_of(mlp, Precision.FP16), tmp_path)
        assert found.problems == ()
        assert found.details["deployed"]["nodes_by_provider"]["CPUExecutionProvider"] >= 3

    def test_a_crash_in_the_trial_is_a_build_error_that_names_the_signal(
        self, mlp: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend_module, "try_face", crash)
        with pytest.raises(BuildError, match=r"mlp\[fp32\]: a trial run .* died of SIGABRT"):
            OnnxRuntimeBackend().build(request_of(mlp, Precision.FP32), tmp_path)

    def test_a_crash_of_the_deployed_face_alone_leaves_the_verified_one(
        self, mlp: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend_module, "try_face", crash_if_deployed)
        found = OnnxRuntimeBackend().build(request_of(mlp, Precision.FP16), tmp_path)
        assert "died of SIGABRT" in found.details["deployed"]["unavailable"]
        assert "deployed face does not open: a trial run in a process of its own failed" in found.messages[0]
        with OnnxRuntimeBackend().load(tmp_path, "verified") as engine:
            assert engine.run(FEEDS)

    def test_a_graph_that_does_not_open_is_a_build_error(self, tmp_path: Path) -> None:
        bad = raw("g (float[N] x) => (float[N] y) { y = custom.Nope(x) }")
        lowered = LoweredModel(bad, PrecisionPlan(Precision.FP32), LoweringSummary())
        with pytest.raises(BuildError, match=r"bad\[fp32\]: ONNX Runtime cannot open the model"):
            IN_PROCESS.build(BuildRequest("bad", lowered, PROFILES, BuildSpec()), tmp_path)

    def test_a_model_that_refuses_zeros_still_builds_and_says_so(self, tmp_path: Path) -> None:
        gather = model("g (int64[N] i) => (float[N] y) { [sub] j = Sub(i, one) [look] y = Gather(w, j) }",
                       one=np.array(100), w=np.ones(4, np.float32))  # fmt: skip
        lowered = LoweredModel(gather, PrecisionPlan(Precision.FP32), LoweringSummary())
        profiles = (Profile.model_validate({"shapes": {"i": [1]}}),)
        found = IN_PROCESS.build(BuildRequest("gather", lowered, profiles, BuildSpec()), tmp_path)
        assert found.messages[0].startswith("verified face does not run on zeros: ONNX Runtime:")


def crash(*_: object) -> None:
    os.abort()


def crash_if_deployed(path: Path, settings: Any, shapes: Any) -> Any:
    return try_face(path, settings, shapes) if path.name == "emulation.onnx" else os.abort()


class TestAudit:
    @pytest.mark.parametrize(
        ("precision", "counts"),
        [
            ("fp32", {"fp32": 3}),
            ("fp16", {"fp16": 3}),
            ("bf16", {"bf16": 3}),
            ("int8", {"int8": 2, "fp32": 1}),
            ("int8+fp16", {"int8": 2, "fp16": 1}),
        ],
    )
    def test_nodes_by_precision(self, mlp: ir.Model, tmp_path: Path, precision: str, counts: Any) -> None:
        found = IN_PROCESS.build(request_of(mlp, Precision(precision)), tmp_path)
        assert dict(found.nodes) == counts
        assert found.problems == ()
        assert ("arithmetic" in found.details) == (precision != "fp32")

    def test_fp32_nodes_kept_are_named(self, mlp: ir.Model, tmp_path: Path) -> None:
        lowered = lower(mlp, PrecisionPlan(Precision.FP16, ("act",)))
        found = IN_PROCESS.build(BuildRequest("mlp", lowered, PROFILES, BuildSpec()), tmp_path)
        assert found.fp32_kept == ("act",)
        assert dict(found.nodes) == {"fp16": 2, "fp32": 1}

    def test_a_node_that_is_not_what_lowering_says_is_a_problem(self, mlp: ir.Model) -> None:
        honest = lower(mlp, PrecisionPlan(Precision.FP16))
        lie = replace(honest, model=mlp)
        found = ort_audit.audit(lie, "CPUExecutionProvider", {})
        assert "node 'fc1' should be fp16, is fp32" in found.problems
        assert "fp16 was asked, no node of 3 is fp16" in found.problems

    def test_nodes_between_the_models_own_q_dq_are_as_fp16_as_they_are_int8(self) -> None:
        text = """g (float[2,3] x) => (float[2,3] y) <float s = {0.5}, int8 z = {0}> {
          q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) a = Tanh(d) y = Sigmoid(a) }"""
        lowered = lower(model(text), PrecisionPlan(Precision.FP16))
        assert ort_audit.audit(lowered, "CPUExecutionProvider", {}).problems == ()

    def test_int8_of_a_model_without_weighted_nodes_says_which_it_quantizes(self) -> None:
        plain = model("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
        found = ort_audit.audit(lower(plain, PrecisionPlan(Precision.INT8)), "CPUExecutionProvider", {})
        none = "no node of 1 is int8: it has none of Conv, ConvTranspose, Gemm, MatMul"
        assert found.problems == (f"int8 was asked, {none}",)

    def test_a_node_said_to_be_quantized_that_is_not_is_a_problem(self, mlp: ir.Model) -> None:
        honest = lower(mlp, PrecisionPlan(Precision.INT8), {"x": 1.0, "b": 1.0})
        found = ort_audit.audit(replace(honest, model=mlp), "CPUExecutionProvider", {})
        assert "node 'fc1' should be int8, is fp32" in found.problems


def test_info_says_version_provider_device_and_threads() -> None:
    info = OnnxRuntimeBackend(intra_op_threads=2).info()
    assert (info.backend, info.provider) == ("onnxruntime", "CPUExecutionProvider")
    assert info.version[0].isdigit()
    assert info.device
    assert info.details["intra_op_threads"] == "2"
    assert info.details["inter_op_threads"] == "default"


def test_threads_reach_the_session(mlp: ir.Model, tmp_path: Path) -> None:
    backend = OnnxRuntimeBackend(intra_op_threads=1, inter_op_threads=1, isolate=False)
    backend.build(request_of(mlp, Precision.FP32), tmp_path)
    with backend.load(tmp_path) as engine:
        assert engine.session.get_session_options().intra_op_num_threads == 1


def test_every_error_of_the_runtime_is_translated() -> None:
    assert native.Fail in ort_session.ORT_ERRORS
    assert native.InvalidArgument in ort_session.ORT_ERRORS
    assert KeyboardInterrupt not in ort_session.ORT_ERRORS


def test_the_record_of_an_engine_is_plain_json(mlp: ir.Model, tmp_path: Path) -> None:
    IN_PROCESS.build(request_of(mlp, Precision.FP16), tmp_path)
    record = json.loads((tmp_path / "engine.json").read_text())
    assert record["faces"] == {"verified": ["emulation.onnx", "basic"], "deployed": ["model.onnx", "all"]}
