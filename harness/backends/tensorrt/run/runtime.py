"""A TensorRT runtime that opens what was built with the options of a spec.

Builder and runtime have plugin registries of their own, and the build may have been another process's.
Unverified on TensorRT hardware.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.tensorrt import options as trt_options
from harness.backends.tensorrt.bindings import Bindings
from harness.backends.tensorrt.log import made
from harness.spec.model_spec import BuildSpec

if TYPE_CHECKING:
    import tensorrt as trt

PLAIN = BuildSpec()


def create_runtime(bindings: Bindings, log: trt.ILogger, options: BuildSpec, folder: Path) -> trt.Runtime:
    """A runtime with the plugins, DLA core and permissions that `options` name; paths start at `folder`.

    Version-compatible plans hold a lean runtime, which is host code; TensorRT runs it only where it may.
    Raises BuildError for a plugin library that does not load, BackendError where TensorRT does not start.
    """
    runtime = made(bindings.api.Runtime, log)
    trt_options.load_plugins(bindings, runtime.get_plugin_registry(), log, options.plugins, folder)
    if options.version_compatible:
        runtime.engine_host_code_allowed = True
    if options.dla_core is not None:
        runtime.DLA_core = options.dla_core
    return runtime
