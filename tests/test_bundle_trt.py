"""Bundles of failures on TensorRT: their script builds with real bindings, their command lines fit."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.backends import create, reproduce_trt
from harness.bundle import describe, write
from harness.bundle_commands import command_lines
from harness.cache import Cache
from harness.failure import Failure, find_failure
from harness.model import Subject
from harness.options import Options
from harness.precision import Precision
from harness.spec_file import read_spec
from tests.helpers_project import write_case
from tests.helpers_tensorrt import rtx


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
    """An execution context that doubles its input."""

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, _stream: int) -> bool:
        import ctypes

        count = int(np.prod(self.shape))
        x, y = ((ctypes.c_float * count).from_address(self.addresses[name]) for name in "xy")
        y[:] = [2 * value for value in x]
        return True


def test_its_script_runs_and_judges(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    bindings = SimpleNamespace(runtime=Runtime())
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=bindings))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    engine = SimpleNamespace(create_execution_context=Context, get_tensor_dtype=lambda _: "FLOAT")

    class Trt:
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

    x = np.float32([[1, 2, 3]])
    found = reproduce_trt.run(Trt, b"plan", {"x": x}, ["y"])
    np.testing.assert_array_equal(found["y"], 2 * x)
    output = {"name": "y", "scale": None, "exact": False, "allowed": {"mre": 1e-3, "unequal": 0.0}}
    assert reproduce_trt.judge(output, found["y"], 2 * x)
    assert not reproduce_trt.judge(output, found["y"], 2.1 * x)
    assert not reproduce_trt.judge(output, found["y"] * np.nan, 2 * x)
    assert "mre" not in capsys.readouterr().err
