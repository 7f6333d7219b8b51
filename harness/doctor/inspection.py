"""Networks and engines as text: layers with their tensors, inputs and outputs, profiles, memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.backends.tensorrt.layers import EngineLayer, EngineTensor
    from harness.backends.tensorrt.network import NetworkLayer, NetworkTensor
    from harness.backends.tensorrt.run.inspect import EngineFacts
    from harness.backends.tensorrt.run.ports import Port

WIDTH = 60


def network_text(layers: Sequence[NetworkLayer]) -> str:
    """One line for each layer of a network: number, type, ONNX node or layer name, tensors in and out."""
    head = f"network: {len(layers)} layers"
    rows = [
        (str(number), layer.type, _short(layer.node or f"({layer.name})"), _flow(layer.inputs, layer.outputs))
        for number, layer in enumerate(layers)
    ]
    return "\n".join([head, *table(rows)])


def engine_text(layers: Sequence[EngineLayer]) -> str:
    """One line for each layer of an engine: number, type, precision, name, tactic; its ONNX nodes below."""
    lines = [f"engine: {len(layers)} layers" if layers else "engine: its builder did not list the layers"]
    rows = [
        (str(number), layer.type, layer.precision, _short(layer.name), layer.tactic)
        for number, layer in enumerate(layers)
    ]
    for line, layer in zip(table(rows), layers, strict=True):
        lines.append(line)
        lines += [f"        from {', '.join(layer.nodes)}"] if layer.nodes else []
        lines += [f"        {_tensor(tensor)}" for tensor in layer.outputs]
    return "\n".join(lines)


def facts_text(facts: EngineFacts) -> str:
    """Inputs, outputs, profiles and memory of a loaded engine."""
    head = f"{facts.name or 'engine'}: {facts.profiles} profiles, {facts.memory_bytes} bytes for a context"
    rows = [("input", port.name, port.dtype, str(list(port.shape)), _ranges(port)) for port in facts.inputs]
    rows += [("output", port.name, port.dtype, str(list(port.shape)), "") for port in facts.outputs]
    return "\n".join([head, *table(rows), engine_text(facts.layers)])


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _flow(inputs: Iterable[NetworkTensor], outputs: Iterable[NetworkTensor]) -> str:
    before, after = (", ".join(map(_named, tensors)) for tensors in (inputs, outputs))
    return f"{before} -> {after}"


def _named(tensor: NetworkTensor) -> str:
    return f"{_short(tensor.name)} {tensor.dtype}{list(tensor.shape)}"


def _tensor(tensor: EngineTensor) -> str:
    return f"-> {tensor.name} {tensor.dtype} {tensor.format}"


def _ranges(port: Port) -> str:
    return "; ".join(f"{list(low)}..{list(usual)}..{list(high)}" for low, usual, high in port.ranges)


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH // 2]}...{text[-WIDTH // 2 + 3 :]}"
