"""The part of a model between tensors that are given and tensors that are wanted, run by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import onnx_ir as ir

from harness.backends.base import Tensors
from harness.backends.ort_models import open_model
from harness.backends.ort_session import OrtEngine, SessionSettings
from harness.errors import RunError
from harness.onnx_graph import values_of

NOTHING: Tensors = MappingProxyType({})


@dataclass(frozen=True)
class SliceOpener:
    """Opens parts of `model`."""

    model: ir.Model
    settings: SessionSettings = field(default_factory=SessionSettings)

    def __call__(self, tensors: Sequence[str], given: Tensors = NOTHING, /) -> OrtEngine:
        """An engine that computes `tensors` from the model's inputs and `given` tensors, as far as they help.

        Its inputs are the model's and those given tensors that the computation reads.
        Raises RunError, NotHonouredError.
        """
        return open_model(slice_of(self.model, tensors, given), tuple(tensors), settings=self.settings)


def slice_of(model: ir.Model, wanted: Sequence[str], given: Tensors) -> ir.Model:
    """The nodes that `wanted` needs beyond `given`; names stay, weights are shared.

    A given tensor whose node is needed all the same, for another output, is computed again.
    """
    values = {value.name: value for value in values_of(model.graph) if value.name}
    if missing := [name for name in wanted if name not in values]:
        raise RunError(f"no tensor named {missing[0]!r} in the main graph ({len(missing)} names missing)")
    start = {name: values[name] for name in given if name in values and name not in wanted}
    while True:
        graph = ir.convenience.extract(
            model.graph, [*model.graph.inputs, *start.values()], [values[name] for name in wanted]
        )
        made = {value.name for node in graph for value in node.outputs}
        twice = made & start.keys()
        if not twice:
            break
        start = {name: value for name, value in start.items() if name not in twice}
    _declare(graph, {name: given[name] for name in start})
    return ir.Model(graph, ir_version=model.ir_version)


def _declare(graph: ir.Graph, given: Tensors) -> None:
    """Drop given inputs that nothing reads, and say the types of the others; the model's own inputs stay."""
    graph.inputs[:] = [value for value in graph.inputs if value.name not in given or value.uses()]
    for value in graph.inputs:
        if (name := value.name or "") in given and value.dtype is None:
            value.type = ir.TensorType(ir.DataType.from_numpy(given[name].dtype))
