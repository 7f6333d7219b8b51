"""What TensorRT-RTX alone has.  Settings of contexts are unverified on RTX hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt


def context_settings(api: trt.Module, engine: trt.ICudaEngine) -> trt.IRuntimeConfig:
    """Settings of contexts that compile kernels for a shape before they run at it.

    By default that is done in the background, and other kernels run until it is: those that are compared
    would not be those that are timed.
    """
    settings = engine.create_runtime_config()
    eager = api.DynamicShapesKernelSpecializationStrategy.EAGER
    settings.dynamic_shapes_kernel_specialization_strategy = eager
    return settings


def create_context(engine: trt.ICudaEngine, settings: trt.IRuntimeConfig) -> trt.IExecutionContext | None:
    """A context with `settings`, which must live as long as it does."""
    return engine.create_execution_context(settings)


def gpu_refusal(api: trt.Module, compute_capability: str) -> str | None:
    """Why TensorRT-RTX does not run on a GPU of this compute capability (`8.9`); None if it does."""
    known = api.ComputeCapability.__members__
    if f"SM{compute_capability.replace('.', '')}" in known:
        return None
    supported = ", ".join(f"{name[2:-1]}.{name[-1]}" for name in known if name.startswith("SM"))
    return f"it runs on GPUs of compute capability {supported}, not {compute_capability or 'unknown'}"
