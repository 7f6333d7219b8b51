"""Runtimes: the only place that knows ONNX Runtime, TensorRT or CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import BackendUnavailableError, UsageError

if TYPE_CHECKING:
    from harness.backends.base import Backend

NAMES = ("onnxruntime", "tensorrt", "tensorrt_rtx")
PREFERRED = ("tensorrt", "tensorrt_rtx")
INSTALL_ORT = "pip install onnxruntime, or onnxruntime-gpu for NVIDIA GPUs (one of them, never both)"


@dataclass(frozen=True)
class Choice:
    """A backend, and why it is this one."""

    backend: Backend
    reason: str


def create(name: str, *, provider: str | None = None, **options: Any) -> Backend:
    """The backend called `name`; see `choose`."""
    return choose(name, provider=provider, **options).backend


def choose(name: str, *, provider: str | None = None, **options: Any) -> Choice:
    """The backend called `name`; `auto`: the first of TensorRT, TensorRT-RTX, ONNX Runtime that can run here.

    `provider` is an execution provider of ONNX Runtime and implies it; `options` are fields of
    `OnnxRuntimeBackend`.  Raises UsageError, and BackendUnavailableError that says how to install it.
    """
    if name != "auto" and name not in NAMES:
        raise UsageError(f"backend = {name!r}: must be auto or one of {', '.join(NAMES)}")
    if name in PREFERRED and provider is not None:
        raise UsageError(f"provider = {provider!r}: goes with the backend onnxruntime, not {name}")
    if name == "auto" and provider is None:
        return _auto(options)
    reason = "asked for" if name != "auto" else f"it has the provider asked for, {provider}"
    return Choice(_onnxruntime(provider, options) if name not in PREFERRED else _tensorrt(name), reason)


def _auto(options: dict[str, Any]) -> Choice:
    against = []
    for name in PREFERRED:
        try:
            backend = _tensorrt(name)
        except BackendUnavailableError as error:
            against.append(str(error))
            continue
        why = backend.can_run()
        if why is None:
            return Choice(backend, "; ".join(["it can run here", *against]))
        against.append(f"{name} cannot run here: {why}")
    return Choice(_onnxruntime(None, options), "; ".join(against))


def _tensorrt(name: str) -> Backend:
    from harness.backends.tensorrt import TensorRTBackend

    backend: Backend = TensorRTBackend(name)
    backend.info()
    return backend


def _onnxruntime(provider: str | None, options: dict[str, Any]) -> Backend:
    try:
        from harness.backends.onnxruntime import OnnxRuntimeBackend
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("onnxruntime"):
            raise
        raise BackendUnavailableError(f"onnxruntime is not installed: {INSTALL_ORT}") from error
    backend = OnnxRuntimeBackend(**(options | ({"provider": provider} if provider else {})))
    backend.info()
    return backend
