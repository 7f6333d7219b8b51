"""What a backend is: it builds engines into a folder and opens them from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from harness.errors import RunError
from harness.precision import Precision

if TYPE_CHECKING:
    from harness.lowering.model import LoweredModel
    from harness.spec.model_spec import BuildSpec, Profile

Tensors = Mapping[str, NDArray[Any]]
Run = Callable[[Tensors], Tensors]
EngineRun = Callable[[Tensors, int], Tensors]
"""Outputs for one set of feeds and the index of a profile."""
Shapes = Mapping[str, tuple[int, ...]]
CUDA = "CUDAExecutionProvider"
"""ONNX Runtime's execution provider for NVIDIA GPUs."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
Face = Literal["verified", "deployed"]
"""`verified`: what outputs are judged on; `deployed`: what a deployment would run, and what is timed.

They differ on ONNX Runtime's CPU provider alone, where reduced precision is verified on the emulation."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, NumPy dtype name and shape (None where dynamic) of one engine input or output."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class BackendInfo:
    """What runs the engines; every field ends in manifests and reports."""

    backend: str
    version: str
    provider: str
    device: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrationData:
    """Data for calibrators of a runtime's own: `entropy` or `minmax`; `batches` gives them anew each time."""

    method: str
    batches: Callable[[], Iterable[Tensors]]
    batch_size: int = 1


@dataclass(frozen=True)
class BuildRequest:
    """Everything an engine is built from; relative paths in `options` start at `base`.

    `calibration` goes with weak typing alone, where `lowered` is the FP32 graph and the runtime quantizes.
    `network`: a function `file.py:function` below `base` that builds the network instead, and `weights` its
    npz file.  `engine`: a finished plan file, taken as it is.
    """

    name: str
    lowered: LoweredModel
    profiles: tuple[Profile, ...]
    options: BuildSpec
    base: Path = Path()
    calibration: CalibrationData | None = None
    network: str | None = None
    weights: Path | None = None
    engine: Path | None = None


@dataclass(frozen=True)
class Audit:
    """What was asked and what was got.

    `nodes` counts nodes (ONNX Runtime) or layers (TensorRT) by the precision they really run in;
    `problems` are broken promises, each one a failure; `unknown` is what nothing tells, neither kept nor
    broken; `messages` is what the builder said.
    """

    requested: Precision
    nodes: Mapping[str, int]
    fp32_kept: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def shapes_in_words(arrays: Tensors) -> str:
    """`x=64x30, n=scalar`."""
    return ", ".join(f"{name}={'x'.join(map(str, a.shape)) or 'scalar'}" for name, a in arrays.items())


@contextmanager
def named_shapes(feeds: Tensors) -> Iterator[None]:
    """A RunError out of this block says, once, at which shapes the engine ran."""
    try:
        yield
    except RunError as error:
        if not hasattr(error, "ran_at"):
            error.ran_at = shapes_in_words(feeds)  # type: ignore[attr-defined]
            error.args = (f"{error.args[0]} (at {error.ran_at})", *error.args[1:])  # type: ignore[attr-defined]
        raise


class Engine(Protocol):
    """A loaded, runnable engine; a context manager that frees what it holds."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def run(self, feeds: Tensors, profile: int = 0) -> dict[str, NDArray[Any]]:
        """Outputs by name for one set of feeds.  Raises RunError."""

    def close(self) -> None:
        """Free device memory and handles; calling it again does nothing."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *_: object) -> None: ...


class Backend(Protocol):
    """Builds and opens engines; holds no engine itself."""

    @property
    def name(self) -> str:
        """The backend's word in options and reports."""

    def info(self) -> BackendInfo:
        """Versions, provider, device.  Raises BackendUnavailableError."""

    def refusal(self, precision: Precision, options: BuildSpec) -> str | None:
        """Why this backend cannot honour a precision or an option here; None if it can."""

    def can_run(self) -> str | None:
        """Why engines cannot be run on this machine although they build; None if they can."""

    def build(self, request: BuildRequest, folder: Path) -> Audit:
        """Write the engine's files into `folder`.  Raises BuildError, NotHonouredError."""

    def load(self, folder: Path, face: Face = "verified") -> Engine:
        """Open the engine whose files are in `folder`.  Raises RunError."""

    @property
    def instrumentation(self) -> str:
        """How intermediate tensors are had: `added outputs`, `debug tensors` or `marked outputs`."""

    def load_instrumented(self, folder: Path, tensors: Sequence[str]) -> Engine:
        """Like `load`, with the named intermediate tensors among the outputs.  Raises RunError."""
