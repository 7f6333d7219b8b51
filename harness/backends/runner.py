"""What runs models for calibration and for the FP32 search: injected, so that neither knows a runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import onnx_ir as ir
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]


class Runner(Protocol):
    """What runs a model: the part of `harness.backends.base.Engine` that is needed."""

    def run(self, feeds: Tensors) -> dict[str, NDArray[Any]]:
        """Outputs by name for one set of feeds."""


Opener = Callable[[ir.Model, Sequence[str]], AbstractContextManager[Runner]]
"""Opens a model so that a run returns exactly the named tensors, intermediate or not."""
