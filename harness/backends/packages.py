"""Packages of ONNX Runtime that stand in each other's way, found by metadata, and what mends it."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from harness.errors import BackendUnavailableError

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
"""All own the folder `onnxruntime`: the last one installed wrote over the others, and goes where they go."""


def wanted() -> str:
    """The distribution that this project depends on here."""
    gpu = platform.machine() in ("x86_64", "AMD64") and sys.platform != "darwin"
    return "onnxruntime-gpu" if gpu else "onnxruntime"


@cache
def installed() -> tuple[str, ...]:
    """The distributions of ONNX Runtime that are installed."""
    return tuple(name for name in DISTRIBUTIONS if _version(name) is not None)


def clash(names: tuple[str, ...] | None = None) -> str | None:
    """Several distributions and the two commands that mend it, in one line; None where there is no second."""
    found = installed() if names is None else names
    if len(found) < 2:
        return None
    both = " and ".join(found)
    return f"{both} are both installed and own one folder, so one of them is broken; {mend(found)}"


def mend(names: tuple[str, ...]) -> str:
    """The two commands: remove all, install one."""
    gone = " ".join(names or (wanted(),))
    return f"mend it: `pip uninstall -y {gone}`, then `pip install {wanted()}`"


def require_whole() -> None:
    """Raise BackendUnavailableError where ONNX Runtime is there in part: what a removal left of two."""
    try:
        runtime = import_module("onnxruntime")
    except ModuleNotFoundError as error:
        if error.name == "onnxruntime":
            raise
        raise BackendUnavailableError(_broken(str(error))) from error
    except ImportError as error:
        raise BackendUnavailableError(_broken(str(error))) from error
    if not hasattr(runtime, "InferenceSession"):
        raise BackendUnavailableError(_broken("no InferenceSession"))


def _broken(why: str) -> str:
    first = why.splitlines()[0] if why else "no reason given"
    return f"onnxruntime is installed in part ({first}); {mend(installed())}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
