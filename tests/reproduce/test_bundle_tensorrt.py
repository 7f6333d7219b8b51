"""Bundles of failures on TensorRT: their script builds with real bindings, their command lines fit."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.backends.choose import create
from harness.engines.subject import Subject
from harness.options import Options
from harness.precision import Precision
from harness.reproduce import script_tensorrt as reproduce_trt
from harness.reproduce.bundle import describe, write
from harness.reproduce.commands import command_lines
from harness.reproduce.failure import Failure, find_failure
from harness.spec.file import read_spec
from harness.storage.cache import Cache
from tests.helpers.project import write_case
from tests.helpers.tensorrt import rtx


@pytest.fixture(scope="module")
def failure(tmp_path_factory: pytest.TempPathFactory) -> Failure:
    """A failure whose engine says that TensorRT-RTX built it."""
    folder = tmp_path_factory.mktemp("trt")
    text = "[precision.fp16.tolerance]\nlimit = 1e-9\n"
    spec = read_spec(write_case(folder / "net", precisions=("fp16",), extra=text))
    subject = Subject(spec, create("onnxruntime"), Cache(folder / "cache"))
    found = find_failure(subject, Precision.FP16)
    manifest = replace(found.built.manifest, backend="tensorrt_rtx", provider="TensorRT-RTX")
    return replace(found, built=replace(found.built, manifest=manifest))


def test_the_case_says_how_to_build(failure: Failure) -> None:
    case = describe(failure)
    assert (case["runtime"], case["module"], case["ran"]) == ("tensorrt", "tensorrt_rtx", "lowered.onnx")
    assert (case["typing"], case["tf32"], case["builder_flags"]) == ("strong", False, [])
    weak = replace(failure, options=failure.options.model_copy(update={"typing": "weak", "tf32": True}))
    assert (describe(weak)["builder_flags"], describe(weak)["tf32"]) == (["FP16"], True)


def test_its_command_lines_run_tensorrt(failure: Failure) -> None:
    text = command_lines(failure, describe(failure))
    assert "polygraphy run lowered.onnx --trt --strongly-typed" in text
    assert "polygraphy debug reduce lowered.onnx" in text
    weak = replace(failure, options=failure.options.model_copy(update={"typing": "weak"}))
    assert "polygraphy run lowered.onnx --trt --fp16 " in command_lines(weak, describe(weak))


@pytest.mark.parametrize(("version", "strong"), [("10.13.0", True), ("11.1.0", False)])
def test_its_command_lines_are_those_of_its_trtexec(failure: Failure, version: str, strong: bool) -> None:
    versions = {**failure.built.manifest.versions, "runtime": version}
    manifest = replace(failure.built.manifest, backend="tensorrt", versions=versions)
    found = replace(failure, built=replace(failure.built, manifest=manifest))
    text = command_lines(found, describe(found))
    assert ("--stronglyTyped" in text, "--noCudaGraph" in text) == (strong, not strong)


def test_its_command_lines_for_weak_typing_are_those_of_a_trtexec_that_has_it(failure: Failure) -> None:
    weak = replace(failure, options=failure.options.model_copy(update={"typing": "weak"}))
    (build, run) = command_lines(weak, describe(weak)).splitlines()[-2:]
    assert "--fp16" in build
    assert "--noCudaGraph" not in run


def test_its_raw_inputs_have_the_types_that_the_engine_takes(failure: Failure, tmp_path: Path) -> None:
    double = replace(failure, feeds={name: a.astype(np.float64) for name, a in failure.feeds.items()})
    write(double, tmp_path / "out", Options())
    (feed,) = failure.feeds.values()
    assert (tmp_path / "out" / "t0.bin").stat().st_size == feed.size * 4


def test_its_script_builds_the_engine(failure: Failure, tmp_path: Path) -> None:
    write(failure, tmp_path / "out", Options())
    assert (tmp_path / "out" / "reproduce.py").read_text() == Path(reproduce_trt.__file__).read_text()
    case = json.loads((tmp_path / "out" / "case.json").read_text())
    plan = reproduce_trt.build(rtx().api, case, tmp_path / "out" / case["ran"])
    assert plan.nbytes > 1000


class Runtime:
    """CUDA's runtime over host memory; allocations are never read before they are written."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []

    def cudaMalloc(self, size: int) -> tuple[int, int]:  # noqa: N802
        self.blocks.append(np.zeros(size, np.uint8))
        return 0, self.blocks[-1].ctypes.data

    def cudaMemcpy(self, target: int, source: int, size: int, _kind: int) -> None:  # noqa: N802
        import ctypes

        ctypes.memmove(target, source, size)

    def cudaDeviceSynchronize(self) -> None:  # noqa: N802
        return None


class Context:
    """An execution context that gives twice what is not 0 of its input, and tells the shape when it runs."""

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.allocators: dict[str, Any] = {}

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def set_output_allocator(self, name: str, allocator: Any) -> None:
        self.allocators[name] = allocator

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, _stream: int) -> bool:
        import ctypes

        count = int(np.prod(self.shape))
        x = (ctypes.c_float * count).from_address(self.addresses["x"])
        found = [2 * value for value in x if value]
        address = self.allocators["y"].reallocate_output_async("y", 0, max(1, 4 * len(found)), 256, 0)
        (ctypes.c_float * len(found)).from_address(address)[:] = found
        self.allocators["y"].notify_shape("y", (len(found),))
        return True


def test_its_script_runs_and_judges(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    bindings = SimpleNamespace(runtime=Runtime())
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=bindings))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    engine = SimpleNamespace(create_execution_context=Context, get_tensor_dtype=lambda _: "FLOAT")

    class Trt:
        IOutputAllocator = object

        class Logger:
            WARNING = 1

            def __init__(self, _level: int) -> None: ...

        class Runtime:
            def __init__(self, _logger: object) -> None: ...

            def deserialize_cuda_engine(self, _plan: object) -> object:
                return engine

        @staticmethod
        def nptype(_dtype: str) -> type:
            return np.float32

    given = np.float64([[1, 0, 2, 3]])
    found = reproduce_trt.run(Trt, b"plan", {"x": given}, ["y"])
    x = np.float32([1, 2, 3])
    np.testing.assert_array_equal(found["y"], 2 * x)
    output = {"name": "y", "scale": None, "exact": False, "allowed": {"mre": 1e-3, "unequal": 0.0}}
    assert reproduce_trt.judge(output, found["y"], 2 * x)
    assert not reproduce_trt.judge(output, found["y"], 2.1 * x)
    assert not reproduce_trt.judge(output, found["y"] * np.nan, 2 * x)
    assert "mre" not in capsys.readouterr().err


class Layer:
    """A layer of an ONNX node with one output."""

    num_outputs = 1

    def __init__(self, node: str, kind: str, dtype: str) -> None:
        self.metadata, self.type = f"[ONNX Layer: {node}]", SimpleNamespace(name=kind)
        self.output = SimpleNamespace(dtype=dtype, is_execution_tensor=True)
        self.precision, self.output_types = "", {}

    def get_output(self, _: int) -> Any:
        return self.output

    def set_output_type(self, index: int, dtype: str) -> None:
        self.output_types[index] = dtype


def test_its_script_holds_the_layers_of_kept_nodes_that_give_floats() -> None:
    layers = [
        Layer("fc", "MATRIX_MULTIPLY", "f32"),
        Layer("fc", "CONSTANT", "f32"),
        Layer("at", "GATHER", "i64"),
        Layer("relu", "ACTIVATION", "f32"),
    ]
    network = SimpleNamespace(num_layers=4, get_layer=lambda k: layers[k])
    reproduce_trt.hold(SimpleNamespace(float32="f32"), network, ["fc", "at"])
    assert [layer.precision for layer in layers] == ["f32", "", "", ""]
    assert [layer.output_types for layer in layers] == [{0: "f32"}, {}, {}, {}]


def test_its_script_has_an_allocator_that_the_bindings_take() -> None:
    found = reproduce_trt.allocator(rtx().api, Runtime())
    assert found.reallocate_output_async("y", 0, 8, 256, 0) == found.pointers["y"]
    found.notify_shape("y", rtx().api.Dims([2, 3]))
    assert found.shapes == {"y": (2, 3)}


def test_its_script_makes_networks_with_an_explicit_batch(failure: Failure) -> None:
    flags: list[int] = []

    def create_network(given: int) -> object:
        flags.append(given)
        raise StopIteration

    trt = SimpleNamespace(
        Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda *_: None}),
        Builder=lambda _: SimpleNamespace(create_network=create_network),
        NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=2),
    )
    for typing in ("weak", "strong"):
        with pytest.raises(StopIteration):
            reproduce_trt.build(trt, {**describe(failure), "typing": typing}, Path("x.onnx"))
    assert flags == [1, 4]
