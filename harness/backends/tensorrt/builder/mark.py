"""Intermediate tensors of a network: which can be looked at, and the ways to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from harness.backends.tensorrt.run import debug as trt_debug
from harness.backends.tensorrt.run import unfused as trt_unfused
from harness.errors import BuildError

if TYPE_CHECKING:
    import tensorrt as trt

Marking = Literal["marked outputs", "debug tensors", "unfused tensors"]
"""`unfused tensors` alone leaves the engine as it is, and gives what names it will."""


def mark_tensors(network: trt.INetworkDefinition, names: Sequence[str], marking: Marking) -> None:
    """Mark the named tensors.  Raises BuildError for one that is absent, a shape or a bool."""
    if marking == "unfused tensors" and names:
        trt_unfused.mark(network)
        return
    tensors = {tensor.name: tensor for tensor in execution_tensors(network)}
    missing = [name for name in names if name not in tensors]
    if missing:
        raise BuildError(f"cannot be shown (absent from the network, shapes or bools): {missing[:10]}")
    chosen = [tensors[name] for name in names if not tensors[name].is_network_output]
    if marking == "debug tensors":
        trt_debug.mark(network, chosen)
        return
    for tensor in chosen:
        network.mark_output(tensor)


def execution_tensors(network: trt.INetworkDefinition) -> list[trt.ITensor]:
    """Outputs of layers that hold data: no shapes, no bools."""
    layers = [layer for i in range(network.num_layers) if (layer := network.get_layer(i)) is not None]
    outputs = [layer.get_output(i) for layer in layers for i in range(layer.num_outputs)]
    return [t for t in outputs if t is not None and not t.is_shape_tensor and t.dtype.name != "BOOL"]
