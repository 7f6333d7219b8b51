"""Options of a run: what `--trt-*` says, as frozen data that knows no pytest."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_cache_path

from harness.errors import UsageError
from harness.flags import BACKENDS, CUDA_BINDINGS, EFFORTS, FLAGS, GATES, TARGETS
from harness.paths import nothing_at
from harness.precision import Precision
from harness.records import ALLOWABLE

Effort = Literal["quick", "normal", "thorough"]
"""At how many shapes outputs are compared; EFFORTS has the words."""
CUDA_PROVIDER = "CUDAExecutionProvider"
_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def default_cache_dir() -> Path:
    """The user's cache folder of this project; `$TRT_HARNESS_CACHE` moves it.  Raises UsageError."""
    try:
        return Path(os.environ.get("TRT_HARNESS_CACHE") or user_cache_path("trt-harness"))
    except RuntimeError as error:
        raise UsageError("no home folder here: set TRT_HARNESS_CACHE to a folder for caches") from error


@dataclass(frozen=True)
class Options:
    """What a run validates, on what, and where it keeps and writes things."""

    specs: tuple[Path, ...] = ()
    onnx: tuple[Path, ...] = ()
    models: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ()
    backend: str = "auto"
    provider: str | None = None
    cuda: str | None = None
    cuda_graph: bool = False
    cache_dir: Path = field(default_factory=default_cache_dir)
    report_dir: Path = Path("reports")
    strict: bool = False
    allow_code: bool = True
    layer_memory_bytes: int = 512 * 2**20
    baseline: Path | None = None
    interleave: bool = False
    search_fp32: bool = False
    allow: tuple[str, ...] = ()
    allow_missing: tuple[str, ...] = ()
    gate: str = "normal"
    target: str | None = None
    data: Path | None = None
    shapes: tuple[str, ...] = ()
    effort: Effort = "normal"
    tolerance: str | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Options:
        """Options from argparse's values by `Flag.dest`.  Raises UsageError, one line."""
        given = {flag.dest: values.get(flag.dest, flag.settings["default"]) for flag in FLAGS}
        default = cls()
        found = cls(
            specs=tuple(_existing("--trt-spec", path) for path in given["trt_spec"]),
            onnx=tuple(_existing("--trt-onnx", path) for path in given["trt_onnx"]),
            models=tuple(given["trt_model"]),
            precisions=tuple(parse_precision(name) for name in given["trt_precision"]),
            backend=_one_of("--trt-backend", given["trt_backend"], BACKENDS),
            provider=given["trt_provider"],
            cuda=_one_of("--trt-cuda", given["trt_cuda"], CUDA_BINDINGS) if given["trt_cuda"] else None,
            cuda_graph=given["trt_cuda_graph"],
            cache_dir=cache_folder("--trt-cache-dir", given["trt_cache_dir"]),
            report_dir=_expanded("--trt-report-dir", given["trt_report_dir"] or default.report_dir),
            strict=given["trt_strict"],
            allow_code=not given["trt_no_code"],
            layer_memory_bytes=parse_bytes("--trt-layer-memory", given["trt_layer_memory"]),
            baseline=_baseline(given["trt_baseline"], given["trt_interleave"]),
            interleave=given["trt_interleave"],
            search_fp32=given["trt_search_fp32"],
            allow=tuple(_one_of("--trt-allow", name, ALLOWABLE) for name in given["trt_allow"]),
            allow_missing=tuple(given["trt_allow_missing"]),
            gate=_one_of("--trt-gate", given["trt_gate"], GATES),
            target=_one_of("--trt-target", given["trt_target"], TARGETS) if given["trt_target"] else None,
            data=_existing("--trt-data", given["trt_data"]) if given["trt_data"] else None,
            shapes=tuple(given["trt_shape"]),
            effort=_effort(given["trt_shapes"]),
            tolerance=given["trt_tolerance"],
        )
        _check_pairs(found)
        return found

    def to_json(self) -> dict[str, Any]:
        """The options as JSON-ready data."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    def changed(self) -> list[str]:
        """`name=value` of every option that differs from its default."""
        default = Options()
        names = [item.name for item in fields(self)]
        return [f"{n}={_words(getattr(self, n))}" for n in names if getattr(self, n) != getattr(default, n)]

    def arguments(self) -> list[str]:
        """The command line arguments that a reproduction of one case needs."""
        paths = [("--trt-spec", path) for path in self.specs] + [("--trt-onnx", path) for path in self.onnx]
        paths += [("--trt-baseline", self.baseline)] if self.baseline else []
        paths += [("--trt-data", self.data)] if self.data else []
        single = [("--trt-backend", self.backend), ("--trt-provider", self.provider)]
        single += [("--trt-cuda", self.cuda), ("--trt-target", self.target)]
        single += [("--trt-tolerance", self.tolerance)]
        single += [("--trt-shapes", self.effort)] if self.effort != "normal" else []
        single += [("--trt-shape", shape) for shape in self.shapes]
        chosen = [(flag, value) for flag, value in single if value not in (None, "auto")]
        allowed = [("--trt-allow", verdict) for verdict in self.allow]
        switches = {
            "--trt-cuda-graph": self.cuda_graph,
            "--trt-strict": self.strict,
            "--trt-no-code": not self.allow_code,
            "--trt-interleave": self.interleave,
        }
        return [f"{flag}={value}" for flag, value in paths + chosen + allowed] + [
            f for f, on in switches.items() if on
        ]


def cache_folder(option: str, path: str | os.PathLike[str] | None) -> Path:
    """The folder of cached things that `option` names, or the default one.  Raises UsageError for a file."""
    found = _expanded(option, path or default_cache_dir())
    there = next(one for one in (found, *found.parents) if os.path.lexists(one))
    if not there.is_dir():
        raise UsageError(f"{option} = {str(found)!r}: {there} is no folder")
    return found


def parse_precision(name: str) -> Precision:
    """The precision called `name`.  Raises UsageError."""
    return Precision(_one_of("--trt-precision", name, tuple(Precision)))


def parse_bytes(option: str, text: str) -> int:
    """Bytes from `1048576` or `512MiB`.  Raises UsageError."""
    found = re.fullmatch(r"([1-9]\d*)\s*(|KiB|MiB|GiB)", text.strip())
    if not found:
        raise UsageError(f"{option} = {text!r}: must be bytes > 0, or a number with KiB, MiB or GiB")
    return int(found[1]) * _UNITS[found[2]]


def _check_pairs(found: Options) -> None:
    """Raise UsageError for options that exclude each other."""
    if found.provider is not None and found.backend not in ("auto", "onnxruntime"):
        rule = f"goes with the backend onnxruntime, not {found.backend}"
        raise UsageError(f"--trt-provider = {found.provider!r}: {rule}")
    if found.cuda_graph and found.provider != CUDA_PROVIDER:
        raise UsageError(f"--trt-cuda-graph: needs --trt-provider {CUDA_PROVIDER}")


def _baseline(path: str | None, interleave: bool) -> Path | None:
    if interleave and not path:
        raise UsageError("--trt-interleave: needs --trt-baseline")
    return _expanded("--trt-baseline", path) if path else None


def _expanded(option: str, path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{option} = {str(path)!r}: ~ names no home folder here") from error


def _existing(option: str, path: str) -> Path:
    found = _expanded(option, path)
    if why := nothing_at(found):
        raise UsageError(f"{option} = {path!r}: {why}")
    return found


def _effort(name: str) -> Effort:
    found: Effort = _one_of("--trt-shapes", name, EFFORTS)  # type: ignore[assignment]
    return found


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise UsageError(f"{option} = {value!r}: must be one of {', '.join(allowed)}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _words(value: Any) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
