"""Which backend is chosen, why, and what is said when it cannot be had."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import harness.backends.choose as backends
from harness.backends.choose import choose, create
from harness.errors import BackendUnavailableError, NotHonouredError, UsageError


class Fake:
    """A TensorRT that says why it cannot run."""

    def __init__(self, name: str, why: str | None = None) -> None:
        self.name, self.why = name, why

    def can_run(self) -> str | None:
        return self.why


def pretend(monkeypatch: pytest.MonkeyPatch, **found: str | Exception | None) -> None:
    """Make `_tensorrt(name)` raise an error, or give a backend that cannot run for a reason."""

    def tensorrt(name: str, *_: object) -> Any:
        what = found.get(name, BackendUnavailableError(f"{name} is not installed: pip install {name}"))
        if isinstance(what, Exception):
            raise what
        return Fake(name, what)

    monkeypatch.setattr(backends, "_tensorrt", tensorrt)


def test_onnxruntime_runs_on_the_cpu_by_default() -> None:
    info = create("onnxruntime").info()
    assert (info.backend, info.provider) == ("onnxruntime", "CPUExecutionProvider")


def test_options_reach_the_backend() -> None:
    assert create("onnxruntime", intra_op_threads=3).info().details["intra_op_threads"] == "3"


def test_auto_takes_tensorrt_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tensorrt=None, tensorrt_rtx=None)
    found = choose("auto")
    assert (found.backend.name, found.reason) == ("tensorrt", "it can run here")


def test_auto_takes_rtx_next_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tensorrt_rtx=None)
    found = choose("auto")
    assert found.backend.name == "tensorrt_rtx"
    assert "tensorrt is not installed: pip install tensorrt" in found.reason


def test_auto_falls_to_onnxruntime_and_says_why_not_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tensorrt_rtx="no GPU")
    found = choose("auto")
    assert found.backend.name == "onnxruntime"
    assert found.reason == (
        "tensorrt is not installed: pip install tensorrt; tensorrt_rtx cannot run here: no GPU"
    )


def test_auto_with_a_provider_means_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tensorrt=None)
    found = choose("auto", provider="CPUExecutionProvider")
    assert found.backend.name == "onnxruntime"
    assert "CPUExecutionProvider" in found.reason


def test_a_named_backend_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(BackendUnavailableError, match="pip install tensorrt_rtx"):
        create("tensorrt_rtx")


def test_a_provider_with_tensorrt_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="provider = 'CUDAExecutionProvider': goes with the backend onnxrun"):
        create("tensorrt", provider="CUDAExecutionProvider")


@pytest.mark.parametrize(
    ("name", "provider"),
    [("tensorrt", None), ("auto", None), ("onnxruntime", None), ("onnxruntime", "CPUExecutionProvider")],
)
def test_a_cuda_graph_goes_with_the_cuda_provider_alone(name: str, provider: str | None) -> None:
    with pytest.raises(UsageError, match="CUDA graph: goes with the provider CUDAExecutionProvider"):
        choose(name, provider=provider, cuda_graph=True)


def test_the_cuda_binding_reaches_the_backend() -> None:
    found: Any = create("onnxruntime", cuda="pycuda")
    assert found.cuda == "pycuda"


def test_an_unknown_backend_is_a_usage_error_that_lists_them() -> None:
    with pytest.raises(UsageError, match="'tensorflow': must be auto or one of onnxruntime, tensorrt, tens"):
        create("tensorflow")


def test_a_provider_that_is_not_there_is_an_error_not_the_cpu() -> None:
    with pytest.raises((BackendUnavailableError, NotHonouredError), match="no NopeExecutionProvider; it has"):
        create("onnxruntime", provider="NopeExecutionProvider")


def test_a_missing_onnxruntime_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "harness.backends.onnxruntime.backend", raising=False)
    for module in [name for name in sys.modules if name.startswith("harness.backends.choose.ort_")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        BackendUnavailableError, match="onnxruntime is not installed: pip install onnxruntime"
    ):
        create("onnxruntime")


def test_naming_the_backends_imports_no_runtime() -> None:
    code = (
        "import sys, harness.backends.choose, harness.backends.base\n"
        "print([m for m in ('onnxruntime', 'tensorrt', 'onnx', 'onnx_ir') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
