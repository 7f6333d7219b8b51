"""What TensorRT-RTX alone has.  Settings of contexts are unverified on RTX hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import NotHonouredError

if TYPE_CHECKING:
    import tensorrt as trt

BY_DEFAULT = ("8.0", "8.6", "8.9", "12.0")
"""What its builder builds for where nothing is said (1.4 to 1.7); engines do not load on any other GPU."""


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
    served = capabilities(api)
    if compute_capability in served:
        return None
    return f"it runs on GPUs of compute capability {', '.join(served)}, not {compute_capability or 'unknown'}"


def capabilities(api: trt.Module) -> tuple[str, ...]:
    """The compute capabilities that engines can be built for: `7.5`, ..."""
    names = (name[2:] for name in api.ComputeCapability.__members__ if name.startswith("SM"))
    return tuple(f"{name[:-1]}.{name[-1]}" for name in names)


def target_refusal(api: trt.Module, targets: Sequence[str]) -> str | None:
    """Why an engine cannot be built for `targets`; None if it can."""
    served = capabilities(api)
    unknown = [target for target in targets if target not in served]
    if unknown:
        return f"compute_capabilities: {', '.join(unknown)}: it builds for {', '.join(served)}"
    repeated = sorted({target for target in targets if targets.count(target) > 1})
    return f"compute_capabilities: {', '.join(repeated)} stands there twice" if repeated else None


def targets_for(api: trt.Module, compute_capability: str) -> tuple[str, ...]:
    """The targets to set for the GPU that is here: itself where a builder left alone would miss it."""
    missed = compute_capability in capabilities(api) and compute_capability not in BY_DEFAULT
    return (compute_capability,) if missed else ()


def plan_refusal(targets: Sequence[str], compute_capability: str) -> str | None:
    """Why an engine built for `targets` does not load on a GPU; None if it may, or nothing was set."""
    if not targets or compute_capability in targets:
        return None
    return f"built for compute capability {', '.join(targets)}, this GPU has {compute_capability}"


def set_targets(api: trt.Module, config: trt.IBuilderConfig, targets: Sequence[str]) -> None:
    """Build for GPUs of these compute capabilities alone.  Raises NotHonouredError."""
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        member = api.ComputeCapability.__members__[f"SM{target.replace('.', '')}"]
        taken = config.set_compute_capability(member, index)
        got = config.get_compute_capability(index)
        if not taken or got != member:
            raise NotHonouredError(
                f"compute_capabilities: asked for {target}, the builder made it {got.name}"
            )
