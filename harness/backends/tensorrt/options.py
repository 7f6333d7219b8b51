"""The spec's build options on a TensorRT builder: what is refused before building, and what is set.

Every option is read back after it was set, because the builder clamps or drops some without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.tensorrt import rtx as trt_rtx
from harness.backends.tensorrt.bindings import Bindings
from harness.errors import BuildError, NotHonouredError
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec

if TYPE_CHECKING:
    import tensorrt as trt

WEAK_ONLY = "uses flags and calibrators that are gone; leave `typing` out: the lowered graph carries the plan"


def refusal(bindings: Bindings, precision: Precision, options: BuildSpec) -> str | None:
    """Why these bindings cannot honour a precision or an option, on any GPU; None if they can."""
    return next((f"{bindings}: {reason}" for reason in _reasons(bindings, precision, options)), None)


def _reasons(bindings: Bindings, precision: Precision, options: BuildSpec) -> Iterator[str]:
    if options.typing == "weak" and not bindings.weak:
        yield f'typing = "weak" {WEAK_ONLY}'
    if options.typing == "strong" and not bindings.strong:
        yield 'has no strongly typed networks; set typing = "weak" in [build]'
    if precision.half is Precision.BF16 and "BF16" not in bindings.api.DataType.__members__:
        yield "has no BF16"
    if options.calibration_cache is not None and options.typing == "strong":
        yield 'calibration_cache goes with typing = "weak"; strongly typed engines take ranges from the graph'
    yield from _unknown_names(bindings.api, options)
    if bindings.rtx:
        yield from _rtx_reasons(bindings.api, options)
    elif options.compute_capabilities:
        yield "compute_capabilities goes with TensorRT-RTX; TensorRT builds for the GPU that is here"


def _unknown_names(api: trt.Module, options: BuildSpec) -> Iterator[str]:
    for pool in options.memory_pools:
        if pool.upper() not in api.MemoryPoolType.__members__:
            yield f"memory_pools.{pool}: no such pool; it has {_names(api.MemoryPoolType.__members__)}"
    level = options.hardware_compatibility
    if level is not None and level.upper() not in api.HardwareCompatibilityLevel.__members__:
        yield f"hardware_compatibility = {level!r}: no such level"


def _rtx_reasons(api: trt.Module, options: BuildSpec) -> Iterator[str]:
    if wrong := trt_rtx.target_refusal(api, options.compute_capabilities):
        yield wrong
    if options.hardware_compatibility is not None:
        yield "hardware_compatibility is not supported; its engines fit every RTX GPU by themselves"
    if options.version_compatible:
        yield "version_compatible needs the lean runtime, which TensorRT-RTX does not have"
    if options.dla_core is not None:
        yield "dla_core: TensorRT-RTX runs on GPUs alone"
    if any(pool.upper().startswith("DLA") for pool in options.memory_pools):
        yield "memory_pools: it has no DLA"


def _names(members: object) -> str:
    return ", ".join(sorted(str(name).lower() for name in members))  # type: ignore[attr-defined]


def apply(
    bindings: Bindings, builder: trt.Builder, config: trt.IBuilderConfig, options: BuildSpec, *, tf32: bool
) -> None:
    """Set every option on `config` and read it back.  Raises NotHonouredError, BuildError."""
    api = bindings.api
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    _set_flag(config, api.BuilderFlag.TF32, tf32)
    _set_flag(config, api.BuilderFlag.VERSION_COMPATIBLE, options.version_compatible)
    _set_pools(api, config, options)
    _set_level(config, options.optimization_level)
    _set_compatibility(api, config, options.hardware_compatibility)
    _set_dla(api, builder, config, options.dla_core)
    if options.compute_capabilities:
        trt_rtx.set_targets(api, config, options.compute_capabilities)


def load_plugins(
    bindings: Bindings, registry: trt.IPluginRegistry, log: trt.ILogger, files: tuple[str, ...], folder: Path
) -> None:
    """Load TensorRT's own plugins where there are any, and the shared libraries named in the spec.

    Paths are relative to `folder`.  Raises BuildError for a library that does not load.
    """
    if not bindings.rtx and not bindings.api.init_libnvinfer_plugins(log, ""):
        raise BuildError(f"{bindings}: its plugin library does not load")
    for file in files:
        path = folder / file
        if registry.load_library(str(path)) is None:
            raise BuildError(f"plugins: {file} does not load as a plugin library of {bindings}")


def _set_flag(config: trt.IBuilderConfig, flag: trt.BuilderFlag, on: bool) -> None:
    (config.set_flag if on else config.clear_flag)(flag)
    _require(f"flag {flag.name}", on, config.get_flag(flag))


def _set_pools(api: trt.Module, config: trt.IBuilderConfig, options: BuildSpec) -> None:
    pools = dict(options.memory_pools)
    if options.workspace_bytes is not None:
        pools["workspace"] = options.workspace_bytes
    for name, size in pools.items():
        pool = api.MemoryPoolType.__members__[name.upper()]
        config.set_memory_pool_limit(pool, size)
        _require(f"memory pool {name}", size, config.get_memory_pool_limit(pool))


def _set_level(config: trt.IBuilderConfig, level: int | None) -> None:
    if level is not None:
        config.builder_optimization_level = level
        _require("optimization_level", level, config.builder_optimization_level)


def _set_compatibility(api: trt.Module, config: trt.IBuilderConfig, name: str | None) -> None:
    if name is not None:
        level = api.HardwareCompatibilityLevel.__members__[name.upper()]
        config.hardware_compatibility_level = level
        _require("hardware_compatibility", level.name, config.hardware_compatibility_level.name)


def _set_dla(api: trt.Module, builder: trt.Builder, config: trt.IBuilderConfig, core: int | None) -> None:
    if core is None:
        return
    if core >= builder.num_DLA_cores:
        raise NotHonouredError(f"dla_core = {core}: this machine has {builder.num_DLA_cores} DLA cores")
    config.default_device_type = api.DeviceType.DLA
    config.DLA_core = core
    _set_flag(config, api.BuilderFlag.GPU_FALLBACK, True)
    _require("dla_core", core, config.DLA_core)


def _require(what: str, asked: object, got: object) -> None:
    if asked != got:
        raise NotHonouredError(f"{what}: asked for {asked}, the builder made it {got}")
