"""Networks built by a user's function through the TensorRT network API."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import BuildError

if TYPE_CHECKING:
    import tensorrt as trt


def call_network_code(
    api: trt.Module, network: trt.INetworkDefinition, function: str, weights: Path | None, base: Path
) -> object:
    """Call `file.py:function` (below `base`) with the network, the weights by name and the bindings module.

    Keep what it gives until the engine is built: TensorRT copies no weights, and its bindings keep them no
    longer than the layer that they were set on, or not at all where they were given by their address.
    Raises BuildError with what the function raised.  Whether code may run is for the caller to ask.
    """
    loaded = read_weights(weights) if weights is not None else {}
    call = _function(function, base)
    try:
        return loaded, call(network, loaded, api)
    except Exception as error:
        raise BuildError(f"{function}: raised {type(error).__name__}: {error}") from error


def read_weights(path: Path) -> Mapping[str, NDArray[Any]]:
    """The arrays of an npz file.  Raises BuildError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise BuildError(f"{path}: no weights can be read from it: {error}") from error


def _function(reference: str, base: Path) -> Callable[..., object]:
    file, _, name = reference.rpartition(":")
    found = importlib.util.spec_from_file_location(f"network_{Path(file).stem}", base / file)
    if found is None or found.loader is None:
        raise BuildError(f"{reference}: {base / file} is no Python file")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
        function: Callable[..., object] = getattr(module, name)
    except Exception as error:
        raise BuildError(f"{reference}: raised {type(error).__name__}: {error}") from error
    return function
