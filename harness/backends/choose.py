"""Runtimes: the only place that knows ONNX Runtime, TensorRT or CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from harness.backends.base import CUDA
from harness.backends.packages import require_whole
from harness.errors import BackendUnavailableError, UsageError

if TYPE_CHECKING:
    from harness.backends.base import Backend
    from harness.backends.cuda.device import Binding
    from harness.backends.relay import Progress

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


def choose(
    name: str,
    *,
    provider: str | None = None,
    cuda: str | None = None,
    cuda_graph: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Choice:
    """The backend called `name`; `auto`: the first of TensorRT, TensorRT-RTX, ONNX Runtime that can run here.

    `provider` is an execution provider of ONNX Runtime and implies it; `cuda`: what device memory is had
    through; `cuda_graph` goes with ONNX Runtime's CUDA provider; `progress` is told the phases of TensorRT's
    builds; `options` are fields of `OnnxRuntimeBackend`.  Raises UsageError, and BackendUnavailableError that
    says how to install it.
    """
    if cuda_graph and (name in PREFERRED or provider != CUDA):
        raise UsageError(f"CUDA graph: goes with the provider {CUDA} of the backend onnxruntime alone")
    if name != "auto" and name not in NAMES:
        raise UsageError(f"backend = {name!r}: must be auto or one of {', '.join(NAMES)}")
    if name in PREFERRED and provider is not None:
        raise UsageError(f"provider = {provider!r}: goes with the backend onnxruntime, not {name}")
    options |= {"cuda": cuda, "cuda_graph": cuda_graph}
    if name == "auto" and provider is None:
        return _auto(options, progress)
    reason = "asked for" if name != "auto" else f"it has the provider asked for, {provider}"
    if name in PREFERRED:
        return Choice(_tensorrt(name, cuda, progress), reason)
    return Choice(_onnxruntime(provider, options), reason)


def _auto(options: dict[str, Any], progress: Progress | None) -> Choice:
    against = []
    for name in PREFERRED:
        try:
            backend = _tensorrt(name, options["cuda"], progress)
        except BackendUnavailableError as error:
            against.append(str(error))
            continue
        why = backend.can_run()
        if why is None:
            return Choice(backend, "; ".join(["it can run here", *against]))
        against.append(f"{name} cannot run here: {why}")
    return Choice(_onnxruntime(None, options), "; ".join(against))


def _tensorrt(name: str, cuda: str | None, progress: Progress | None) -> Backend:
    from harness.backends.tensorrt.backend import TensorRTBackend

    backend: Backend = TensorRTBackend(name, cuda=cast("Binding | None", cuda), progress=progress)
    backend.info()
    return backend


def _onnxruntime(provider: str | None, options: dict[str, Any]) -> Backend:
    try:
        require_whole()
        from harness.backends.onnxruntime.backend import OnnxRuntimeBackend
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("onnxruntime"):
            raise
        raise BackendUnavailableError(f"onnxruntime is not installed: {INSTALL_ORT}") from error
    backend = OnnxRuntimeBackend(**(options | ({"provider": provider} if provider else {})))
    backend.info()
    return backend
