"""Models in memory, run by ONNX Runtime; intermediate tensors on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from harness.backends.base import Tensors
from harness.backends.onnxruntime.provider import require_provider
from harness.backends.onnxruntime.session import OrtEngine, SessionSettings, session_of
from harness.backends.onnxruntime.weights import detach
from harness.errors import RunError
from harness.graph import file as onnx_file


def open_model(
    model: ir.Model | Path,
    outputs: Sequence[str] | None = None,
    *,
    optimised: bool = False,
    settings: SessionSettings | None = None,
) -> OrtEngine:
    """An engine for a model in memory or on disk; `outputs` names the tensors to return, intermediate or not.

    `optimised` is short for level "all"; `settings` says it all.  Raises NotHonouredError, RunError.
    """
    settings = settings or SessionSettings(level="all" if optimised else "none")
    if isinstance(model, Path) and outputs is None:
        return OrtEngine.open(model, settings)
    require_provider(settings.provider)
    model = onnx_file.read(model) if isinstance(model, Path) else model
    if outputs is not None:
        model = with_outputs(model, outputs)
    return OrtEngine(_session_of(model, settings), outputs)


def run_model(
    model: ir.Model,
    feeds: Tensors,
    outputs: Sequence[str] | None = None,
    *,
    optimised: bool = False,
    settings: SessionSettings | None = None,
) -> dict[str, Any]:
    """Outputs of one run of a model in memory; see `open_model`."""
    with open_model(model, outputs, optimised=optimised, settings=settings) as engine:
        return engine.run(feeds)


def with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """The model with the named tensors of its main graph among its outputs; weights are shared.

    It is `model` itself where they are that already.  Raises RunError for a name that its main graph lacks.
    """
    if set(names) <= {value.name for value in model.graph.outputs}:
        return model
    model = onnx_file.clone(model)
    graph = model.graph
    present = {value.name for value in graph.outputs}
    values = _values(graph)
    if missing := [name for name in names if name not in values]:
        raise RunError(f"no tensor named {missing[0]!r} in the main graph ({len(missing)} names missing)")
    graph.outputs.extend(values[name] for name in dict.fromkeys(names) if name not in present)
    return model


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    found = {value.name: value for value in (*graph.inputs, *graph.initializers.values())}
    found.update({value.name: value for node in graph for value in node.outputs})
    return {name: value for name, value in found.items() if name}


def _session_of(model: ir.Model, settings: SessionSettings) -> Any:
    bare = detach(model)
    return session_of(bare.model.SerializeToString(), settings, weights=bare.values())
