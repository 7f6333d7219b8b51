"""What TensorRT-RTX alone has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt


def gpu_refusal(api: trt.Module, compute_capability: str) -> str | None:
    """Why TensorRT-RTX does not run on a GPU of this compute capability (`8.9`); None if it does."""
    known = api.ComputeCapability.__members__
    if f"SM{compute_capability.replace('.', '')}" in known:
        return None
    supported = ", ".join(f"{name[2:-1]}.{name[-1]}" for name in known if name.startswith("SM"))
    return f"it runs on GPUs of compute capability {supported}, not {compute_capability or 'unknown'}"
