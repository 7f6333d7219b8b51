"""The runner against doubles of TensorRT's runtime, engine, context and of the GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.tensorrt.origin import Origin
from harness.backends.tensorrt.run.engine import TensorRTEngine
from harness.errors import RunError
from harness.spec.model_spec import BuildSpec, Profile
from tests.helpers.lowering import model, run
from tests.helpers.trt_double import Faults, double
from tests.helpers.trt_engine import COUNT, PROFILES, Opener, ramp, relu_and_sum


def test_it_computes_what_the_model_computes(opened: Opener) -> None:
    feeds = {"x": ramp(3)}
    with opened() as engine:
        found = engine.run(feeds)
    wanted = run(relu_and_sum(), feeds)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


def test_shapes_may_change_from_run_to_run(opened: Opener) -> None:
    with opened() as engine:
        for rows in (1, 4, 2, 3, 4, 1):
            np.testing.assert_array_equal(engine.run({"x": ramp(rows)})["y"], np.maximum(ramp(rows), 0))


def test_outputs_of_a_run_are_not_overwritten_by_the_next(opened: Opener) -> None:
    with opened() as engine:
        first = engine.run({"x": ramp(4)})["y"]
        engine.run({"x": -ramp(4)})
    np.testing.assert_array_equal(first, np.maximum(ramp(4), 0))


def test_each_profile_has_a_context_of_its_own(opened: Opener) -> None:
    with opened() as engine:
        for rows, index in ((2, 0), (16, 1), (3, 0), (8, 1)):
            assert engine.run({"x": ramp(rows)}, index)["y"].shape == (rows, 4)
        double_engine: Any = engine.engine
        assert double_engine.contexts == 2


def test_rtx_compiles_kernels_before_they_run(opened: Opener) -> None:
    with opened() as engine:
        engine.run({"x": ramp(2)})
        engine.residents([{"x": ramp(2)}])
        double_engine: Any = engine.engine
        used = [each.dynamic_shapes_kernel_specialization_strategy for each in double_engine.settings]
    assert [strategy.name for strategy in used] == ["EAGER", "EAGER"]


def test_tensorrt_has_no_settings_of_contexts(tmp_path: Path) -> None:
    plan = tmp_path / "engine.plan"
    bindings, device, found = double(relu_and_sum(), PROFILES, plan=plan)
    with TensorRTEngine.open(replace(bindings, name="tensorrt"), plan, device) as engine:
        engine.run({"x": ramp(2)})
    assert found.settings == [None]


@pytest.mark.parametrize(
    ("rows", "index", "says"),
    [
        (5, 0, r"input 'x': shape \[5, 4\] is outside profile 0: \[1, 4\] to \[4, 4\] allowed"),
        (3, 1, r"shape \[3, 4\] is outside profile 1: \[4, 4\] to \[16, 4\] allowed"),
        (1, 2, "profile 2: the engine has 2"),
        (1, -1, "profile -1: the engine has 2"),
    ],
)
def test_a_shape_outside_the_profile_names_the_allowed_range(
    opened: Opener, rows: int, index: int, says: str
) -> None:
    with opened() as engine, pytest.raises(RunError, match=says):
        engine.run({"x": ramp(rows)}, index)


@pytest.mark.parametrize("feeds", [{}, {"z": ramp(1)}, {"x": ramp(1), "z": ramp(1)}])
def test_inputs_are_exactly_the_engines(opened: Opener, feeds: dict[str, Any]) -> None:
    with opened() as engine, pytest.raises(RunError, match=r"the engine takes \['x'\]"):
        engine.run(feeds)


def test_a_wrong_dtype_is_refused_and_fp64_is_not(opened: Opener) -> None:
    with opened() as engine:
        with pytest.raises(RunError, match=r"input 'x': dtype int32, but the engine takes float32 \(FLOAT\)"):
            engine.run({"x": ramp(1).astype(np.int32)})
        np.testing.assert_array_equal(
            engine.run({"x": ramp(1).astype(np.float64)})["y"], np.maximum(ramp(1), 0)
        )


def test_inputs_and_outputs_are_described(opened: Opener) -> None:
    with opened() as engine:
        assert [(i.name, i.dtype, i.shape) for i in engine.inputs] == [("x", "float32", (None, 4))]
        assert [(o.name, o.shape) for o in engine.outputs] == [("y", (None, 4)), ("s", (None, 1))]


def test_an_output_whose_shape_depends_on_data_gets_an_allocator(opened: Opener) -> None:
    with opened(model(COUNT), Faults(data_dependent=("y",))) as engine:
        for value in (ramp(4), np.zeros((2, 4), np.float32), -ramp(1)):
            np.testing.assert_array_equal(engine.run({"x": value})["y"], np.argwhere(value))


def test_an_empty_output_has_a_pointer_all_the_same(opened: Opener) -> None:
    with opened(model(COUNT), Faults(data_dependent=("y",))) as engine:
        assert engine.run({"x": np.zeros((1, 4), np.float32)})["y"].shape == (0, 2)


def test_an_allocator_that_finds_no_memory_says_how_much_was_asked(opened: Opener) -> None:
    with (
        opened(model(COUNT), Faults(data_dependent=("y",)), limit=100) as engine,
        pytest.raises(RunError, match="out of device memory: asked for 256 bytes"),
    ):
        engine.run({"x": np.ones((4, 4), np.float32)})


def test_too_little_device_memory_is_told(opened: Opener) -> None:
    with (
        opened(limit=10) as engine,
        pytest.raises(RunError, match="asked for 16 bytes, 10 of 10 bytes are free"),
    ):
        engine.run({"x": ramp(1)})


def test_an_output_that_was_never_written_is_no_output(opened: Opener) -> None:
    faults = Faults(data_dependent=("y",), silent=("y",))
    with opened(model(COUNT), faults) as engine, pytest.raises(RunError, match="never told its shape"):
        engine.run({"x": ramp(1)})


@pytest.mark.parametrize(
    "call",
    [
        "create_execution_context",
        "set_optimization_profile_async",
        "set_input_shape",
        "set_tensor_address",
        "infer_shapes",
        "execute_async_v3",
    ],
)
def test_every_call_that_fails_is_told_with_tensorrts_words(opened: Opener, call: str) -> None:
    with (
        opened(faults=Faults((call,), "the cat sat on it")) as engine,
        pytest.raises(RunError, match="the cat sat"),
    ):
        engine.run({"x": ramp(1)})


def test_a_refused_allocator_is_told(opened: Opener) -> None:
    faults = Faults(("set_output_allocator",), "no", data_dependent=("y",))
    with opened(model(COUNT), faults) as engine, pytest.raises(RunError, match="takes no allocator"):
        engine.run({"x": ramp(1)})


def test_memory_that_runs_out_inside_tensorrt_is_translated(opened: Opener) -> None:
    words = "CUDA out of memory. Failed to allocate 123456 bytes"
    with (
        opened(faults=Faults(("execute_async_v3",), words)) as engine,
        pytest.raises(
            RunError, match=r"out of device memory: asked for 123456 bytes, \d+ of 1048576 bytes are free"
        ),
    ):
        engine.run({"x": ramp(1)})


def test_closing_frees_the_device_once(tmp_path: Path) -> None:
    plan = tmp_path / "engine.plan"
    bindings, device, _ = double(relu_and_sum(), PROFILES, plan=plan)
    engine = TensorRTEngine.open(bindings, plan, device)
    engine.run({"x": ramp(1)})
    engine.close()
    engine.close()
    assert device.closed == 1


ORIGIN = Origin("tensorrt_rtx", "1.7.1.116", "", "")


OTHER_VERSION = Origin("tensorrt", "10.3.0", "", "")
OTHER_GPU = Origin("tensorrt_rtx", "1.7.1.116", "RTX 4090", "8.9")
LOADING = [
    (OTHER_VERSION, "x", r"built by tensorrt 10\.3\.0, this is 1\.7\.1\.116"),
    (OTHER_GPU, "x", r"built on RTX 4090 \(compute capability 8\.9\), this is Double"),
    (ORIGIN, "Version tag does not match. Current Version: 4", "fits another version or GPU"),
    (ORIGIN, "out of memory, requested 99 bytes", "out of device memory: asked for 99 bytes"),
    (None, "something else", "something else"),
]


@pytest.mark.parametrize(("origin", "words", "says"), LOADING)
def test_a_plan_that_does_not_load_says_why(
    tmp_path: Path, origin: Origin | None, words: str, says: str
) -> None:
    plan = tmp_path / "engine.plan"
    faults = Faults(("deserialize_cuda_engine",), words)
    bindings, device, _ = double(relu_and_sum(), PROFILES, faults, plan=plan)
    with pytest.raises(RunError, match=f"engine.plan: .*{says}"):
        TensorRTEngine.open(bindings, plan, device, origin)
    assert device.closed == 1


def test_shapes_that_cannot_be_computed_are_a_run_error(opened: Opener) -> None:
    faults = Faults(words="reshape changes volume", inconsistent=True)
    with opened(faults=faults) as engine, pytest.raises(RunError, match="inferred: reshape changes volume"):
        engine.run({"x": ramp(1)})


RESHAPE = "g (float[N, 4] x, int64[2] to) => (float[A, B] y) { y = Reshape (x, to) }"


def test_an_input_that_holds_a_shape_is_taken_from_host_memory(tmp_path: Path) -> None:
    plan = tmp_path / "engine.plan"
    bindings, device, _ = double(model(RESHAPE), PROFILES, Faults(on_host=("to",)), plan=plan)
    with TensorRTEngine.open(bindings, plan, device) as engine:
        found = engine.run({"x": ramp(3), "to": np.array([2, 6])})["y"]
        np.testing.assert_array_equal(found, ramp(3).reshape(2, 6))
        with pytest.raises(RunError, match=r"input 'to': shape \[3\] refused"):
            engine.run({"x": ramp(3), "to": np.array([2, 3, 2])})


def test_plugins_are_loaded_where_the_plan_is_opened(tmp_path: Path) -> None:
    plan, library = tmp_path / "engine.plan", tmp_path / "libmine.so"
    bindings, device, _ = double(relu_and_sum(), PROFILES, Faults(plugin=str(library)), plan=plan)
    with TensorRTEngine.open(
        bindings, plan, device, None, BuildSpec(plugins=("libmine.so",)), tmp_path
    ) as engine:
        assert engine.run({"x": ramp(1)})["y"].shape == (1, 4)
    with pytest.raises(RunError, match=r"engine\.plan: plugins: mine\.txt does not load"):
        TensorRTEngine.open(bindings, plan, device, None, BuildSpec(plugins=("mine.txt",)), tmp_path)
    assert device.closed == 2


def test_host_code_runs_only_where_the_spec_asks_for_a_version_compatible_plan(tmp_path: Path) -> None:
    plan = tmp_path / "engine.plan"
    bindings, device, _ = double(relu_and_sum(), PROFILES, Faults(host_code=True), plan=plan)
    TensorRTEngine.open(bindings, plan, device, None, BuildSpec(version_compatible=True)).close()
    with pytest.raises(RunError, match="host code is not allowed"):
        TensorRTEngine.open(bindings, plan, device)


def test_the_dla_core_is_the_runtimes_too(tmp_path: Path) -> None:
    plan = tmp_path / "engine.plan"
    bindings, device, _ = double(relu_and_sum(), PROFILES, plan=plan)
    with TensorRTEngine.open(bindings, plan, device, None, BuildSpec(dla_core=1)) as engine:
        assert engine.runtime.DLA_core == 1


def test_an_engine_with_an_implicit_batch_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "engine.plan"
    bindings, device, engine = double(relu_and_sum(), PROFILES, plan=plan)
    engine.__dict__["has_implicit_batch_dimension"] = True
    with pytest.raises(RunError, match="implicit batch dimension, which TensorRT 10 removed"):
        TensorRTEngine.open(bindings, plan, device)
    assert device.closed == 1


def test_a_missing_or_foreign_plan_is_a_run_error(tmp_path: Path) -> None:
    bindings, device, _ = double(relu_and_sum(), PROFILES)
    with pytest.raises(RunError, match="No such file"):
        TensorRTEngine.open(bindings, tmp_path / "absent.plan", device)
    (tmp_path / "foreign.plan").write_bytes(b"garbage")
    with pytest.raises(RunError, match=r"it is no plan that .* reads: another product's, damaged"):
        TensorRTEngine.open(bindings, tmp_path / "foreign.plan", device, ORIGIN)


@pytest.mark.parametrize("name", ["x", "s"])
def test_tensors_in_other_memory_formats_are_refused_by_name(opened: Opener, name: str) -> None:
    with opened(faults=Faults(formats={name: "CHW32"})) as engine:
        assert engine.facts().profiles == 2
        for call in (engine.run, lambda feeds: engine.residents([feeds])):
            with pytest.raises(RunError, match=f"'{name}' has memory format CHW32: .* LINEAR"):
                call({"x": ramp(2)})


def test_what_failed_before_explains_no_later_failure(opened: Opener) -> None:
    with opened(faults=Faults(("execute_async_v3",), "cudaMalloc: out of memory")) as engine:
        double_engine: Any = engine.engine
        with pytest.raises(RunError, match="out of device memory"):
            engine.run({"x": ramp(2)})
        double_engine.faults.words = "illegal address"
        with pytest.raises(RunError) as raised:
            engine.run({"x": ramp(2)})
    assert "memory" not in str(raised.value)


def test_engine_and_runtime_go_before_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    bindings, device, engine = double(relu_and_sum(), PROFILES, plan=tmp_path / "p")
    engine.__dict__["has_implicit_batch_dimension"] = True
    alive: list[int] = []
    close = device.close
    kind = bindings.api.Runtime

    def closing() -> None:
        gc.collect()
        alive.append(sum(type(item) is kind for item in gc.get_objects()))
        close()

    monkeypatch.setattr(device, "close", closing)
    with pytest.raises(RunError, match="implicit batch"):
        TensorRTEngine.open(bindings, tmp_path / "p", device)
    assert alive == [0]


def test_an_input_that_is_an_output_too_keeps_its_name(tmp_path: Path) -> None:
    source = model("g (float[N, 4] a) => (float[N, 4] y, float[N, 4] b) { y = Relu (a) b = Identity (a) }")
    source.graph.inputs[0].name, source.graph.outputs[1].name = "__x", "x"
    shapes = {"__x": PROFILES[0].shapes["x"]}
    bindings, device, _ = double(source, (Profile(name="p", shapes=shapes),), plan=tmp_path / "p")
    with TensorRTEngine.open(bindings, tmp_path / "p", device) as engine:
        assert [info.name for info in engine.inputs] == ["x"]
        found = engine.run({"x": ramp(2)})
        (resident,) = engine.residents([{"x": ramp(2)}])
        resident()
        again = resident.fetch()
    assert found.keys() == again.keys() == {"y", "x"}
    np.testing.assert_array_equal(found["x"], ramp(2))


def test_the_engine_tells_its_layers_and_memory(opened: Opener) -> None:
    with opened(faults=Faults(layers='{"Layers": ["one", "two"]}')) as engine:
        facts = engine.facts()
    assert [layer.name for layer in facts.layers] == ["one", "two"]
    assert (facts.profiles, facts.memory_bytes) == (2, 4096)
    assert [port.ranges[1][2] for port in facts.inputs] == [(16, 4)]
