"""The extremes model: the FP32 graph, and beside each named tensor its largest and its smallest element.

The scalars are the only outputs, so that a run keeps no tensor longer than the graph itself needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

PREFIX = "extremes/"


@dataclass(frozen=True)
class Extremes:
    """Names of the two scalars of the tensor `tensor`."""

    tensor: str
    largest: str
    smallest: str


def extremes_model(normalised: ir.Model, tensors: Sequence[str]) -> tuple[ir.Model, list[Extremes]]:
    """The extremes model for those of `tensors` that nodes of the main graph make or that are its inputs."""
    model = normalised.clone()
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs if value.name}
    values |= {value.name: value for value in graph.inputs if value.name}
    found = [_probe(graph, values[name]) for name in tensors if name in values]
    graph.outputs[:] = [value for pair in found for value in pair]
    names = [name for name in tensors if name in values]
    probes = [
        Extremes(name, large.name or "", small.name or "")
        for name, (large, small) in zip(names, found, strict=True)
    ]
    return model, probes


def _probe(graph: ir.Graph, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    return _reduced(graph, value, "ReduceMax"), _reduced(graph, value, "ReduceMin")


def _reduced(graph: ir.Graph, value: ir.Value, op_type: str) -> ir.Value:
    name = f"{PREFIX}{op_type}/{len(graph)}"
    output = ir.Value(name=f"{name}/out", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([]))
    keep = ir.AttrInt64("keepdims", 0)
    graph.append(ir.Node("", op_type, [value], [keep], outputs=[output], name=name))
    return output
