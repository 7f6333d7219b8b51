"""Sessions of ONNX Runtime as engines, on the provider asked for and no other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from harness import processors
from harness.backends.base import TensorInfo, Tensors, named_shapes
from harness.backends.cuda.faults import explained
from harness.backends.onnxruntime.provider import (
    CPU,
    require_provider,
    said_on_stderr,
    why_not_created,
    why_not_opened,
)
from harness.backends.onnxruntime.values import NUMPY_NAMES, from_ort, to_ort
from harness.errors import NotHonouredError, RunError

ORT_ERRORS: tuple[type[Exception], ...] = (
    *(kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,
)
LEVELS = MappingProxyType(
    {
        "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
)
ERRORS_ONLY, FATAL_ONLY = 3, 4


@dataclass(frozen=True)
class SessionSettings:
    """How a session runs: provider and its options, graph optimisation, threads (0: ONNX Runtime decides).

    `level`: "none", "basic" or "all".  `spin`: its threads wait busily for work, as ONNX Runtime's do by
    default; that takes processors from every other session and worker, and is for what is timed.  `quiet`:
    the runtime itself prints no error of a run, which is raised all the same.
    """

    provider: str = CPU
    provider_options: Mapping[str, str] = field(default_factory=dict)
    level: str = "none"
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    spin: bool = False
    quiet: bool = False

    def options(self) -> Any:
        """The `SessionOptions`: deterministic; of ONNX Runtime's own log only errors."""
        options = ort.SessionOptions()
        options.graph_optimization_level = LEVELS[self.level]
        options.intra_op_num_threads = self.intra_op_threads or allowed_threads()
        options.inter_op_num_threads = self.inter_op_threads
        options.use_deterministic_compute = True
        options.log_severity_level = FATAL_ONLY if self.quiet else ERRORS_ONLY
        if not self.spin:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options

    def providers(self) -> list[Any]:
        """The provider with its options; nodes that it lacks kernels for may fall to the CPU's."""
        asked = [(self.provider, dict(self.provider_options))]
        return asked if self.provider == CPU else [*asked, CPU]


class OrtEngine:
    """A session as an engine; `run` returns `fetch`, by default every output of the graph."""

    def __init__(self, session: Any, fetch: Sequence[str] | None = None) -> None:
        self._session = session
        self.inputs = tuple(_info(arg) for arg in session.get_inputs())
        every = {arg.name: _info(arg) for arg in session.get_outputs()}
        self._names = list(every) if fetch is None else list(fetch)
        self.outputs = tuple(every[name] for name in self._names)
        self._plain = "bfloat16" not in {info.dtype for info in (*self.inputs, *self.outputs)}

    @classmethod
    def open(
        cls,
        path: Path,
        settings: SessionSettings,
        *,
        fetch: Sequence[str] | None = None,
        record_providers: bool = False,
    ) -> OrtEngine:
        """The engine of a model file.  Raises NotHonouredError, RunError."""
        require_provider(settings.provider)
        return cls(session_of(path, settings, record_providers=record_providers), fetch)

    @property
    def session(self) -> Any:
        """The `onnxruntime.InferenceSession`; None once closed."""
        return self._session

    def node_providers(self) -> list[str]:
        """The provider of each node, for an engine opened with `record_providers`; empty in old versions."""
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            return []
        parts = self._session.get_provider_graph_assignment_info()
        return [part.ep_name for part in parts for _ in part.get_nodes()]

    def run(self, feeds: Tensors, profile: int = 0) -> dict[str, Any]:  # noqa: ARG002
        """Outputs by name for one set of feeds.  Raises RunError."""
        if self._session is None:
            raise RunError("the engine is closed")
        with named_shapes(feeds):
            return self._outputs(feeds)

    def _outputs(self, feeds: Tensors) -> dict[str, Any]:
        self._check(feeds)
        try:
            values = self._run_plain(feeds) if self._plain else self._run_values(feeds)
        except ORT_ERRORS as error:
            raise explained(f"ONNX Runtime: {one_line(error)}") from error
        return dict(zip(self._names, values, strict=True))

    def _run_plain(self, feeds: Tensors) -> list[Any]:
        arrays = {name: np.asarray(array) for name, array in feeds.items()}  # NumPy's scalars are no arrays.
        found: list[Any] = self._session.run(self._names, arrays)
        return found

    def _run_values(self, feeds: Tensors) -> list[Any]:
        values = {name: to_ort(array) for name, array in feeds.items()}
        return [from_ort(value) for value in self._session.run_with_ort_values(self._names, values)]

    def _check(self, feeds: Tensors) -> None:
        expected = {info.name: info for info in self.inputs}
        if feeds.keys() != expected.keys():
            raise RunError(f"inputs are {sorted(expected)}, fed were {sorted(feeds)}")
        for name, array in feeds.items():
            if array.dtype.name != expected[name].dtype:
                raise RunError(f"input {name!r} is {expected[name].dtype}, fed was {array.dtype.name}")

    def close(self) -> None:
        """Free the session; calling it again does nothing."""
        self._session = None

    def __enter__(self) -> OrtEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def session_of(
    source: Path | bytes,
    settings: SessionSettings,
    *,
    weights: Mapping[str, Any] | None = None,
    record_providers: bool = False,
) -> Any:
    """A session on exactly the provider that `settings` ask for; `weights` are values that `source` names.

    Raises NotHonouredError, RunError.
    """
    model, options = os.fspath(source) if isinstance(source, Path) else source, settings.options()
    if weights:
        options.add_external_initializers(list(weights), list(weights.values()))
    if record_providers:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        with said_on_stderr(settings.provider) as said:
            session = ort.InferenceSession(model, options, providers=settings.providers())
    except ORT_ERRORS as error:
        why = why_not_opened(one_line(error), settings.provider)
        raise explained(f"ONNX Runtime cannot open the model: {why}") from error
    got = session.get_providers()
    if settings.provider not in got:
        why = why_not_created(said) or "it did not say why"
        fallen = f"asked for {settings.provider}, ONNX Runtime fell back to {', '.join(got)}"
        raise NotHonouredError(f"{fallen}: {why}")
    return session


def allowed_threads() -> int:
    """As many threads as this process has processors, where it has not all; 0 lets ONNX Runtime decide.

    By itself it starts a thread for each core of the machine and binds it there, whoever else works on it.
    """
    return processors.limited() or 0


def _info(arg: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) else None for size in arg.shape)
    return TensorInfo(arg.name, NUMPY_NAMES.get(arg.type, arg.type), shape)


def one_line(error: BaseException, limit: int = 600) -> str:
    """The message of an error on one line, cut to `limit` characters."""
    return " ".join(str(error).split())[:limit]
