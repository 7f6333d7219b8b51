"""Whether ONNX Runtime can really run a provider here, and if not, which library is missing."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnxruntime as ort

from harness.errors import NotHonouredError

CPU = "CPUExecutionProvider"
NO_KERNEL = re.compile(r"Provider type for (\S+) node with name '(.*?)' is not set")
LIBRARIES = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
    "NvTensorRTRTXExecutionProvider": "libonnxruntime_providers_nv_tensorrt_rtx.so",
}


def require_provider(provider: str) -> None:
    """Make sure that `provider` is built in and its libraries load.

    Raises NotHonouredError, where ONNX Runtime by itself would run on the CPU under the provider's name.
    """
    available = ort.get_available_providers()
    if provider not in available:
        raise NotHonouredError(f"this ONNX Runtime has no {provider}; it has {', '.join(available)}")
    if why := missing_library(provider):
        raise NotHonouredError(f"{provider} cannot be loaded here: {why}")


@contextlib.contextmanager
def said_on_stderr(provider: str) -> Iterator[list[str]]:
    """The lines that native code writes to stderr meanwhile; those of the CPU provider are left alone.

    ONNX Runtime says nowhere else why a provider could not be created.
    """
    lines: list[str] = []
    if provider == CPU:
        yield lines
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            lines.extend(said.read().decode(errors="replace").splitlines())


def why_not_created(lines: Iterable[str]) -> str:
    """The part of what ONNX Runtime said that names a failure, on one line; empty where nothing does."""
    plain = (re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines)
    return " ".join(" ".join(line for line in plain if "ail" in line or "rror" in line).split())[:600]


def why_not_opened(said: str, provider: str) -> str:
    """What ONNX Runtime means by the error that it gives where no provider has a kernel for a node."""
    found = NO_KERNEL.search(said)
    if found is None:
        return said
    nobody = f"{CPU} has no kernel" if provider == CPU else f"neither {provider} nor {CPU} has a kernel"
    return f"{nobody} for {found[1]} (node {found[2]!r}) at these types: {said}"


@functools.cache
def missing_library(provider: str) -> str | None:
    """What the loader says of the provider's own library; None if it loads or there is none."""
    folder = Path(ort.__file__).parent / "capi"
    library = folder / LIBRARIES.get(provider, "")
    if not sys.platform.startswith("linux") or not library.is_file():
        return None
    with contextlib.redirect_stdout(io.StringIO()):  # It prints each library it does not find.
        ort.preload_dlls()
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return None
