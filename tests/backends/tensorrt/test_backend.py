"""The backend as a whole on doubles: build, audit by the engine's inspector, load, instrument."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from harness.backends.base import CalibrationData
from harness.backends.tensorrt import backend as tensorrt
from harness.backends.tensorrt.audit.record import CALIBRATION, ONNX, read_task
from harness.backends.tensorrt.backend import TensorRTBackend
from harness.backends.tensorrt.builder.build import Aids, BuildTask, Built
from harness.backends.tensorrt.builder.names import inner_tensors
from harness.backends.tensorrt.network import NetworkLayer, NetworkTensor
from harness.errors import BuildError, NotHonouredError, RunError
from harness.precision import Precision
from tests.helpers.lowering import model, run
from tests.helpers.tensorrt import SMALL, classifier, request
from tests.helpers.trt_double import Faults, HostDevice, double

LAYERS = {"Layers": [{"Name": "gemm", "Metadata": "[ONNX Layer: fc]", "Inputs": [], "Outputs": []}]}
FEEDS = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}


class Bench:
    """A backend whose builder writes the plan of a double, and the tasks that it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.tasks: list[tuple[BuildTask, Aids]] = []
        self.device = HostDevice(1 << 24)
        faults = Faults(layers=json.dumps(LAYERS))
        bindings, _, self.engine = double(classifier(), (SMALL,), faults, self.device)
        self.backend = TensorRTBackend("tensorrt_rtx", isolate=False, **options)
        self.backend.__dict__["bindings"] = replace(bindings, name="tensorrt", version=(10, 13))
        monkeypatch.setattr(tensorrt, "build", self.build)
        monkeypatch.setattr("harness.backends.cuda.device.open_device", lambda *_: self.device)
        monkeypatch.setattr("harness.backends.tensorrt.options._unknown_names", lambda *_: iter(()))

    def build(self, _: Any, task: BuildTask, onnx: Path, plan: Path, aids: Aids) -> Built:
        self.tasks.append((task, aids))
        assert onnx.is_file()
        plan.write_bytes(b"plan")
        tensor = (NetworkTensor("m", "FLOAT", (-1, 10)),)
        layers = (NetworkLayer("fc", "MATRIX_MULTIPLY", "fc", (), tensor),)
        return Built("1.7.1.116", layers, ("x",), ("y",), (), (), 0.1)


@pytest.fixture(name="bench")
def _bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_where_a_gpu_is_the_engine_itself_is_audited(bench: Bench, tmp_path: Path) -> None:
    audit = bench.backend.build(request(Precision.FP32), tmp_path)
    assert audit.details["engine_layers"] == 1
    assert audit.details["counted"] == "engine layers"
    assert audit.details["engine_bytes"] == 4


def test_a_built_engine_is_loaded_and_runs(bench: Bench, tmp_path: Path) -> None:
    bench.backend.build(request(Precision.FP32), tmp_path)
    with bench.backend.load(tmp_path) as engine:
        found = engine.run(FEEDS)
    np.testing.assert_allclose(found["y"], run(classifier(), FEEDS)["y"], rtol=1e-4)


def test_every_way_to_open_an_engine_loads_its_plugins(bench: Bench, tmp_path: Path) -> None:
    asked = replace(request(Precision.FP32, plugins=("libmine.so",)), base=tmp_path)
    bench.engine.faults.plugin = str(tmp_path / "libmine.so")
    bench.backend.build(asked, tmp_path)
    bench.backend.load(tmp_path).close()
    bench.backend.load_instrumented(tmp_path, ["m"]).close()


def test_an_instrumented_engine_is_built_apart(bench: Bench, tmp_path: Path) -> None:
    bench.backend.build(request(Precision.FP32), tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with bench.backend.load_instrumented(tmp_path, ["m", "r"]) as engine:
        assert engine.run(FEEDS)["y"].shape == (2, 10)
    task, _ = bench.tasks[-1]
    assert (task.outputs, task.marking) == (("m", "r"), "marked outputs")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_debug_tensors_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench = Bench(monkeypatch, instrumentation="debug tensors")
    bench.backend.build(request(Precision.FP32), tmp_path)
    with bench.backend.load_instrumented(tmp_path, ["shown_x"]) as engine:
        np.testing.assert_array_equal(engine.run(FEEDS)["shown_x"], FEEDS["x"])
    assert bench.tasks[-1][0].marking == "debug tensors"


def test_an_instrumented_build_that_fails_is_a_run_error(
    bench: Bench, tmp_path: Path, monkeypatch: Any
) -> None:
    def failing(*_: object) -> Built:
        raise BuildError("no tactic")

    bench.backend.build(request(Precision.FP32), tmp_path)
    monkeypatch.setattr(tensorrt, "build", failing)
    with pytest.raises(RunError, match="2 tensors as marked outputs: no tactic"):
        bench.backend.load_instrumented(tmp_path, ["m", "r"])


def test_calibrators_get_the_gpu_which_is_given_back(bench: Bench, tmp_path: Path) -> None:
    asked = request(Precision.INT8, typing="weak")
    data = CalibrationData("entropy", lambda: iter(()))
    bench.backend.build(replace(asked, calibration=data), tmp_path)
    _, aids = bench.tasks[-1]
    assert aids.device is bench.device
    assert aids.calibration is data
    assert bench.device.closed > 0


def test_a_calibration_cache_needs_no_gpu(bench: Bench, tmp_path: Path) -> None:
    asked = request(Precision.INT8, typing="weak", calibration_cache="x.cache")
    bench.backend.build(replace(asked, calibration=CalibrationData("entropy", lambda: ())), tmp_path)
    assert bench.tasks[-1][1].device is None


def test_timings_are_shared_where_tensorrt_has_them(bench: Bench, tmp_path: Path) -> None:
    bench.backend.build(request(Precision.FP32), tmp_path)
    timing = bench.tasks[-1][1].timing_cache
    assert timing is not None
    assert timing.path.suffix == ".timing"


MEAN = "g (float[N, 3, H, W] x) => (float[N, 3, 1, 1] y) { y = ReduceMean (x, axes) }"


@pytest.mark.parametrize(("version", "inputs"), [((8, 6), 1), ((10, 13), 2)])
def test_the_parser_gets_axes_as_it_reads_them(
    bench: Bench, tmp_path: Path, version: tuple[int, int], inputs: int
) -> None:
    bench.backend.__dict__["bindings"] = replace(bench.backend.bindings, version=version)
    source = model(MEAN, axes=np.array([2, 3]))
    bench.backend.build(request(Precision.FP32, source=source, typing="weak"), tmp_path)
    (node,) = onnx.load(tmp_path / ONNX).graph.node
    assert len(node.input) == inputs
    assert {attribute.name for attribute in node.attribute} >= ({"axes"} if inputs == 1 else set())


def test_a_refusal_names_model_and_precision(bench: Bench, tmp_path: Path) -> None:
    bench.backend.__dict__["bindings"] = replace(bench.backend.bindings, version=(11, 0))
    with pytest.raises(NotHonouredError, match=r'cnn\[fp16\]: TensorRT .* typing = "weak" uses flags'):
        bench.backend.build(request(Precision.FP16, typing="weak"), tmp_path)


@pytest.mark.parametrize("answer", ["", "null", '{"Layers": 3}'])
def test_an_inspector_that_answers_nothing_leaves_the_audit_without_knowledge(
    bench: Bench, tmp_path: Path, answer: str
) -> None:
    bench.engine.faults.layers = answer
    audit = bench.backend.build(request(Precision.FP32), tmp_path)
    assert audit.problems == ()
    (line,) = audit.unknown
    assert line.startswith("not known: 1 line of its layers is in no known form: ")
    assert "answer has no layers" in line


def test_the_inspector_is_asked_with_a_context_at_the_usual_shapes(bench: Bench, tmp_path: Path) -> None:
    bench.backend.build(request(Precision.FP32), tmp_path)
    asked = bench.engine.inspector
    assert asked.profile == 0
    assert asked.shapes == {"x": SMALL.shapes["x"].opt}


def test_doc_strings_do_not_reach_weak_parsers(bench: Bench, tmp_path: Path) -> None:
    asked = request(Precision.FP32, typing="weak")
    for node in asked.lowered.model.graph:
        node.doc_string = "words"
    bench.backend.build(asked, tmp_path)
    assert not any(node.doc_string for node in onnx.load(tmp_path / ONNX).graph.node)


CACHE = "TRT-101303-EntropyCalibration2\nx: 3c010a14\n"


def test_a_weak_int8_engine_is_instrumented_from_the_cache_that_it_wrote(
    bench: Bench, tmp_path: Path
) -> None:
    asked = replace(
        request(Precision.INT8, typing="weak"), calibration=CalibrationData("entropy", lambda: iter(()))
    )
    bench.backend.build(asked, tmp_path)
    with pytest.raises(RunError, match="no calibration cache to build it again from: "):
        bench.backend.load_instrumented(tmp_path, ["m"])
    (tmp_path / CALIBRATION).write_text(CACHE)
    bench.backend.load_instrumented(tmp_path, ["m"]).close()
    task, aids = bench.tasks[-1]
    assert task.options.calibration_cache == str(tmp_path / CALIBRATION)
    assert aids.calibration is not None
    assert (aids.calibration.method, aids.device) == ("entropy", None)


BRANCH = """g (bool c, float[N, 3, H, W] x) => (float[N, 3, H, W] y) {
    a = Relu (x)
    y = If (c) <then_branch = t () => (float[N, 3, H, W] ty) { inside = Exp (a) ty = Neg (inside) },
                else_branch = e () => (float[N, 3, H, W] ey) { ey = Neg (a) }>
}"""


def test_tensors_inside_branches_are_not_offered() -> None:
    assert {"inside", "ty", "ey"} == set(inner_tensors(model(BRANCH)))
    assert inner_tensors(classifier()) == ()


def test_showable_leaves_out_what_is_inside(bench: Bench, tmp_path: Path, monkeypatch: Any) -> None:
    bench.backend.build(request(Precision.FP32), tmp_path)
    assert bench.backend.showable(tmp_path) == {"m"}
    task = replace(read_task(tmp_path), inner=("m",))
    monkeypatch.setattr(tensorrt, "read_task", lambda _: task)
    assert bench.backend.showable(tmp_path) == frozenset()
