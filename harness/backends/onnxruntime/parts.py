"""The part of a model between tensors that are given and tensors that are wanted, as protobuf.

The model is taken apart once; protobuf then copies a node in a microsecond, `onnx_ir` in fifty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

import onnx
import onnx_ir as ir

from harness.backends.base import Tensors
from harness.backends.onnxruntime.weights import Detached
from harness.errors import RunError

_GRAPHS = frozenset({onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS})


class Parts:
    """Cuts parts out of a model; names stay, weights are shared."""

    def __init__(self, whole: Detached) -> None:
        self._whole = whole
        graph = whole.model.graph
        self._nodes = list(graph.node)
        self._reads = [tuple(dict.fromkeys(_reads(node))) for node in self._nodes]
        self._makers = {name: at for at, node in enumerate(self._nodes) for name in node.output if name}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._known = {*self._makers, *self._initializers, *(value.name for value in graph.input)}

    def between(self, given: Tensors, wanted: Sequence[str]) -> Detached:
        """The nodes that `wanted` needs beyond `given`; inputs are the model's and the given tensors read.

        A given tensor whose node is needed all the same, for another output, is computed again.
        Raises RunError for a name that the main graph lacks.
        """
        if missing := [name for name in wanted if name not in self._known]:
            raise RunError(f"no tensor named {missing[0]!r} in the main graph ({len(missing)} names missing)")
        start = {name for name in given if name in self._makers} - set(wanted)
        found = self._needed(wanted, start)
        while twice := start & {name for at in found for name in self._nodes[at].output}:
            start -= twice
            found = self._needed(wanted, start)
        return self._part({name: given[name] for name in given if name in start}, found, wanted)

    def _needed(self, wanted: Sequence[str], start: Set[str]) -> list[int]:
        """Which nodes `wanted` needs beyond `start`, in graph order."""
        stack, found = list(wanted), set[int]()
        while stack:
            at = None if (name := stack.pop()) in start else self._makers.get(name)
            if at is not None and at not in found:
                found.add(at)
                stack += self._reads[at]
        return sorted(found)

    def _part(self, given: Tensors, found: Sequence[int], wanted: Sequence[str]) -> Detached:
        whole, read = self._whole.model, {name for at in found for name in self._reads[at]}
        model = onnx.ModelProto(ir_version=whole.ir_version, opset_import=whole.opset_import)
        model.functions.extend(whole.functions)
        graph, held = model.graph, [n for n in self._initializers if n in read or n in wanted]
        graph.name = whole.graph.name or "part"
        graph.node.extend(self._nodes[at] for at in found)
        graph.initializer.extend(self._initializers[name] for name in held)
        graph.input.extend(whole.graph.input)
        graph.input.extend(_declared(name, given[name]) for name in given if name in read)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
        weights = self._whole.weights
        return Detached(model, {name: weights[name] for name in held if name in weights})


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, with all that its subgraphs name: their own tensors have other names."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs) if attribute.type in _GRAPHS else ():
            yield from (name for inner in graph.node for name in _reads(inner))
            yield from (value.name for value in graph.output)


def _declared(name: str, array: Any) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, ir.DataType.from_numpy(array.dtype).value, array.shape)
