"""The TensorRT bindings as a value: `tensorrt` (8.6 to 11.x) or `tensorrt_rtx`, chosen by name.

Code of this package takes the module as an argument, so that one code path serves both.  In annotations
`trt.Module` is that module: tests/conformance describes it for each version, anywhere else it is Any.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import BackendUnavailableError

if TYPE_CHECKING:
    import tensorrt as trt

MODULES: dict[str, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    # What the package `tensorrt-rtx-cu13` adds to its bindings is this alias alone.
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
VENDOR = "https://pypi.nvidia.com"
"""The index that has TensorRT's libraries: plain pip says "No matching distribution" without it."""
INSTALL = {
    "tensorrt": f"pip install --extra-index-url {VENDOR} 'trt-harness[tensorrt]' (TensorRT 8.6 to 11.x)",
    "tensorrt_rtx": "pip install 'trt-harness[rtx]' (TensorRT-RTX 1.4 or later)",
}
PRODUCT = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
OLDEST = {"tensorrt": (8, 6), "tensorrt_rtx": (1, 4)}


@dataclass(frozen=True)
class Bindings:
    """The bindings module, its name and its version."""

    name: str
    api: trt.Module
    version: tuple[int, int]

    @property
    def rtx(self) -> bool:
        """Whether this is TensorRT-RTX."""
        return self.name == "tensorrt_rtx"

    @property
    def strong(self) -> bool:
        """Whether networks can be strongly typed: the graph says every precision."""
        return self.rtx or self.version >= (10, 0)

    @property
    def weak(self) -> bool:
        """Whether networks can be weakly typed: flags, layer precisions and calibrators say them."""
        return not self.rtx and self.version < (11, 0)

    @property
    def reads_axes(self) -> bool:
        """Whether the ONNX parser reads the axes of every reduction from an input, as opset 18 gives them."""
        return self.rtx or self.version >= (10, 0)

    def __str__(self) -> str:
        return f"{PRODUCT[self.name]} {self.api.__version__}"


def load_bindings(name: str) -> Bindings:
    """Import the bindings called `name`.

    Raises BackendUnavailableError: not installed, libraries missing, or too old.
    """
    return bindings_of(name, _import(name))


def bindings_of(name: str, module: trt.Module) -> Bindings:
    """`module` as Bindings.  Raises BackendUnavailableError if it is too old."""
    version = parse_version(str(module.__version__))
    if version < OLDEST[name]:
        oldest = ".".join(map(str, OLDEST[name]))
        raise BackendUnavailableError(f"{PRODUCT[name]} {module.__version__}: needs {oldest} or later")
    return Bindings(name, module, version)


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor number of a version such as `10.13.3.9.post1`."""
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise BackendUnavailableError(f"the bindings call their version {text!r}: not a version")
    return int(found[1]), int(found[2])


def _import(name: str) -> Any:
    for module in MODULES[name]:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise BackendUnavailableError(f"{name}: {error}; {INSTALL[name]}") from error
        except (ImportError, OSError, RuntimeError) as error:
            raise BackendUnavailableError(f"{name}: its libraries do not load: {error}") from error
    raise BackendUnavailableError(f"{name} is not installed: {INSTALL[name]}")


@contextlib.contextmanager
def deprecated() -> Iterator[None]:
    """Around the use of what TensorRT 10 warns that it will remove: code that asks first, or weak typing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
