"""Tensors that fusion leaves, shown by TensorRT 10.12 and later without a change to the engine.

They have the names of the fused graph.  Unverified on TensorRT hardware.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import BuildError, RunError

if TYPE_CHECKING:
    import tensorrt as trt

# What the compiler adds to the name of an ONNX tensor: a version, an index, the number of the subgraph.
ADDED = re.compile(r"(\.\d+)?(_\d+)?_myl\d+(_\d+)?$")


def mark(network: trt.INetworkDefinition) -> None:
    """Show every tensor that fusion leaves.  Raises BuildError if TensorRT does not."""
    if not network.mark_unfused_tensors_as_debug_tensors():
        raise BuildError("TensorRT marks no unfused tensors as debug tensors")


def switch_on(context: trt.IExecutionContext) -> None:
    """Let a context show them to its listener.  Raises RunError if TensorRT does not."""
    context.unfused_tensors_debug_state = True
    if not context.unfused_tensors_debug_state:
        raise RunError("TensorRT does not switch its unfused tensors on")


def onnx_name(name: str) -> str:
    """The ONNX tensor that a name of the fused graph most likely stands for: `r.1_15_myl0` is `r`."""
    return ADDED.sub("", name)
