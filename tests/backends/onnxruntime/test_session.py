"""Sessions run what they are given, on the provider asked for, with the rounding that a graph asks for."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from harness.backends.cuda.gpu_facts import visible_gpu
from harness.backends.onnxruntime import audit as ort_audit
from harness.backends.onnxruntime import provider as ort_provider
from harness.backends.onnxruntime import session as ort_session
from harness.backends.onnxruntime.backend import (
    OnnxRuntimeBackend,
    SessionSettings,
    open_model,
    run_model,
)
from harness.backends.onnxruntime.weights import detach
from harness.errors import BackendUnavailableError, NotHonouredError, RunError
from harness.graph import file as onnx_file
from harness.lowering.model import LoweredModel, LoweringSummary
from harness.precision import Precision, PrecisionPlan
from tests.helpers.lowering import raw
from tests.helpers.mlp import FEEDS, WEIGHTS, made_mlp, relative

CUDA = "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def mlp() -> ir.Model:
    return made_mlp()


class TestOpenModel:
    def test_outputs_by_name(self, mlp: ir.Model) -> None:
        assert relative(run_model(mlp, FEEDS)["y"]) < 1e-6

    def test_only_the_named_tensors_intermediate_or_not(self, mlp: ir.Model) -> None:
        found = run_model(mlp, FEEDS, ["b", "x", "w2", "a"])
        assert list(found) == ["b", "x", "w2", "a"]
        np.testing.assert_array_equal(found["b"], np.maximum(found["a"], 0))
        np.testing.assert_array_equal(found["x"], FEEDS["x"])
        np.testing.assert_array_equal(found["w2"], WEIGHTS["w2"])

    def test_the_model_is_left_as_it_was(self, mlp: ir.Model) -> None:
        run_model(mlp, FEEDS, ["a"])
        assert [value.name for value in mlp.graph.outputs] == ["y"]

    def test_an_unknown_tensor_is_an_error(self, mlp: ir.Model) -> None:
        with pytest.raises(RunError, match=r"no tensor named 'nope' in the main graph"):
            open_model(mlp, ["a", "nope"])

    def test_bfloat16_inputs_and_outputs(self) -> None:
        cast = raw(
            "g (bfloat16[N] x) => (bfloat16[N] y) { a = Cast<to = 1>(x) b = Neg(a) y = Cast<to = 16>(b) }"
        )
        feeds = {"x": np.array([1.5, -2.0], ml_dtypes.bfloat16)}
        found = run_model(cast, feeds)["y"]
        assert found.dtype == ml_dtypes.bfloat16
        assert found.tolist() == [-1.5, 2.0]

    def test_scalars_and_strings(self) -> None:
        g = raw("g (float x, string[N] s) => (float y, string[N] t) { y = Neg(x) t = Identity(s) }")
        found = run_model(g, {"x": np.float32(2).reshape(()), "s": np.array(["a", "bc"], object)})
        assert found["y"].shape == ()
        assert found["t"].tolist() == ["a", "bc"]

    def test_a_file_with_external_weights(self, mlp: ir.Model, tmp_path: Path) -> None:
        onnx_file.write(mlp, tmp_path / "m.onnx", external_bytes=0)
        assert relative(open_model(tmp_path / "m.onnx").run(FEEDS)["y"]) < 1e-6
        assert set(open_model(tmp_path / "m.onnx", ["a"]).run(FEEDS)) == {"a"}

    @pytest.mark.parametrize("level", ["none", "basic", "all"])
    def test_large_weights_are_shared_and_not_serialised(
        self, mlp: ir.Model, monkeypatch: pytest.MonkeyPatch, level: str
    ) -> None:
        monkeypatch.setattr("harness.backends.onnxruntime.weights.LARGE_BYTES", 0)
        bare = detach(mlp)
        assert set(bare.weights) == set(mlp.graph.initializers)
        assert bare.model.ByteSize() < onnx_file.weight_bytes(mlp)
        assert relative(run_model(mlp, FEEDS, settings=SessionSettings(level=level))["y"]) < 1e-6

    def test_weights_outlive_the_model_that_brought_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("harness.backends.onnxruntime.weights.LARGE_BYTES", 0)
        x, w = np.ones((4, 64), np.float32), np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
        model = raw("g (float[N, 64] x) => (float[N, 64] y) { y = MatMul(x, w) }")
        model.graph.register_initializer(ir.val("w", const_value=ir.tensor(w.copy(), name="w")))
        for node in model.graph:
            node.replace_input_with(1, model.graph.initializers["w"])
        engine = open_model(model)
        del model
        gc.collect()
        assert np.array_equal(engine.run({"x": x})["y"], x @ w)

    def test_a_graph_that_the_runtime_refuses_is_an_error(self) -> None:
        bad = raw("g (float[N] x) => (float[N] y) { y = custom.Nope(x) }")
        with pytest.raises(RunError, match=r"ONNX Runtime cannot open the model: .*Nope"):
            open_model(bad)


class TestRun:
    @pytest.mark.parametrize(
        ("feeds", "message"),
        [
            ({}, r"inputs are \['x'\], fed were \[\]"),
            (FEEDS | {"z": FEEDS["x"]}, r"fed were \['x', 'z'\]"),
            ({"x": FEEDS["x"].astype(np.float64)}, "input 'x' is float32, fed was float64"),
            ({"x": FEEDS["x"][:, :7]}, "ONNX Runtime: .*dimensions"),
        ],
    )
    def test_feeds_that_do_not_fit_are_errors(self, mlp: ir.Model, feeds: Any, message: str) -> None:
        with open_model(mlp) as engine, pytest.raises(RunError, match=message):
            engine.run(feeds)

    def test_a_closed_engine_does_not_run(self, mlp: ir.Model) -> None:
        engine = open_model(mlp)
        engine.close()
        engine.close()
        with pytest.raises(RunError, match="closed"):
            engine.run(FEEDS)

    def test_tensor_infos(self, mlp: ir.Model) -> None:
        with open_model(mlp) as engine:
            (info,) = engine.inputs
        assert (info.name, info.dtype, info.shape) == ("x", "float32", (None, 8))

    def test_runs_are_bit_equal(self, mlp: ir.Model) -> None:
        with open_model(mlp, optimised=True) as engine:
            np.testing.assert_array_equal(engine.run(FEEDS)["y"], engine.run(FEEDS)["y"])


class TestSettings:
    def test_threads_wait_busily_only_where_asked(self) -> None:
        key = "session.intra_op.allow_spinning"
        assert SessionSettings().options().get_session_config_entry(key) == "0"
        with pytest.raises(RuntimeError):  # ONNX Runtime's own default
            SessionSettings(spin=True).options().get_session_config_entry(key)


class TestProvider:
    def test_an_unknown_provider_is_an_error_that_lists_what_there_is(self, mlp: ir.Model) -> None:
        with pytest.raises(NotHonouredError, match=r"no NopeProvider; it has .*CPUExecutionProvider"):
            open_model(mlp, settings=SessionSettings("NopeProvider"))

    def test_a_silent_fallback_is_an_error(self, mlp: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        """The session itself falls back: nothing before it noticed that the provider cannot work."""

        class FallenBack:
            def __init__(self, *_: object, **__: object) -> None:
                os.write(
                    2, b"\x1b[1;31m[E:onnxruntime] Failed to load library: libcublas.so.13\x1b[m\nmore\n"
                )

            def get_providers(self) -> list[str]:
                return ["CPUExecutionProvider"]

        monkeypatch.setattr(ort_session.ort, "InferenceSession", FallenBack)
        monkeypatch.setattr("harness.backends.onnxruntime.models.require_provider", lambda _: None)
        with pytest.raises(
            NotHonouredError, match=f"asked for {CUDA}, ONNX Runtime fell back to CPUEx.*libcublas.so.13$"
        ):
            open_model(mlp, settings=SessionSettings(CUDA))

    def test_a_library_that_does_not_load_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "capi").mkdir()
        for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
            (tmp_path / "capi" / name).write_bytes(b"not a library")
        monkeypatch.setattr(ort_provider.ort, "__file__", str(tmp_path / "__init__.py"))
        monkeypatch.setattr(ort_provider.ort, "get_available_providers", lambda: [CUDA])
        monkeypatch.setattr(ort_provider, "missing_library", ort_provider.missing_library.__wrapped__)
        backend = OnnxRuntimeBackend(CUDA)
        assert "libonnxruntime_providers_shared.so" in str(backend.can_run())
        with pytest.raises(BackendUnavailableError, match=f"{CUDA} cannot be loaded here: .*shared"):
            backend.info()

    @pytest.mark.parametrize(
        ("got", "problems"),
        [({"use_tf32": "0"}, 0), ({"use_tf32": "1"}, 1), ({}, 0), ({"use_tf32": "unknown"}, 0)],
    )
    def test_tf32_that_is_not_as_asked_is_a_problem(
        self, mlp: ir.Model, got: dict[str, str], problems: int
    ) -> None:
        lowered = LoweredModel(mlp, PrecisionPlan(Precision.FP32), LoweringSummary())
        told = {"provider_options_asked": {"use_tf32": "0"}, "provider_options": got}
        found = ort_audit.audit(lowered, CUDA, told)
        assert len(found.problems) == problems
        assert all("use_tf32 = 0 was asked, the session has 1" in problem for problem in found.problems)

    def test_a_missing_kernel_is_told_by_operator_and_node(self) -> None:
        said = "transformer_memcpy.cc:253 Provider type for MaxPool node with name 'Pooling66' is not set."
        found = ort_provider.why_not_opened(said, CUDA)
        assert found.startswith(
            f"neither {CUDA} nor CPUExecutionProvider has a kernel for MaxPool (node 'Pool"
        )
        assert ort_provider.why_not_opened(said, "CPUExecutionProvider").startswith(
            "CPUExecutionProvider has no"
        )
        assert ort_provider.why_not_opened("else", CUDA) == "else"

    def test_cpu_nodes_under_a_gpu_name_are_a_problem(self, mlp: ir.Model) -> None:
        lowered = LoweredModel(mlp, PrecisionPlan(Precision.FP32), LoweringSummary())
        found = ort_audit.audit(lowered, CUDA, {"nodes_by_provider": {"CPUExecutionProvider": 3}})
        assert found.problems == (f"{CUDA} was asked, all 3 nodes run on CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("visible", "index", "name"),
    [(None, 1, "1"), ("2,3", 1, "3"), ("GPU-abc", 0, "GPU-abc"), ("", 0, None), ("0", 1, None)],
)
def test_the_gpu_that_cuda_sees_is_the_one_described(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, index: int, name: str | None
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpu(index) == name
