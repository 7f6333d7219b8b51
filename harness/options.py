"""Options of a run: what `--trt-*` says, as frozen data that knows no pytest."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from harness.errors import UsageError
from harness.paths import nothing_at
from harness.precision import Precision
from harness.records import ALLOWABLE

CUDA_BINDINGS = ("cuda-python", "pycuda")
CUDA_PROVIDER = "CUDAExecutionProvider"
BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt_rtx")
DEFAULT_LAYER_MEMORY = "512MiB"
TARGETS = ("tensorrt", "tensorrt_rtx", "onnxruntime")
_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Flag:
    """One command line option; `settings` are the keywords of argparse's `add_argument`."""

    name: str
    settings: Mapping[str, Any]

    @property
    def dest(self) -> str:
        """The attribute that argparse stores the value under."""
        return self.name.lstrip("-").replace("-", "_")


def _many(name: str, metavar: str, text: str) -> Flag:
    return Flag(name, {"action": "append", "default": [], "metavar": metavar, "help": text})


def _one(name: str, metavar: str, text: str, default: str | None = None) -> Flag:
    return Flag(name, {"default": default, "metavar": metavar, "help": text})


def _switch(name: str, text: str) -> Flag:
    return Flag(name, {"action": "store_true", "default": False, "help": text})


FLAGS: tuple[Flag, ...] = (
    _many("--trt-spec", "PATH", "path, repeatable: validate this spec.toml, or every one in this folder, "
          "instead of the bundled models (default: the folder of the ini option trt_models)"),
    _many("--trt-onnx", "PATH", "path, repeatable: validate this ONNX file without a spec (default: none)"),
    _many("--trt-model", "GLOB", "name or glob, repeatable: only models with such names (default: all)"),
    _many("--trt-precision", "NAME", f"one of {', '.join(Precision)}, repeatable: only these of the "
          "precisions that a spec lists (default: all)"),
    _one("--trt-backend", "NAME", f"one of {', '.join(BACKENDS)} (default: auto, which takes TensorRT where "
         "it can run, else ONNX Runtime)", "auto"),
    _one("--trt-provider", "NAME", "ONNX Runtime execution provider (default: CPUExecutionProvider)"),
    _one("--trt-cuda", "NAME", f"one of {', '.join(CUDA_BINDINGS)}: what device memory and events are had "
         "through (default: the one installed)"),
    _switch("--trt-cuda-graph", "time the deployed engine as a CUDA graph, on ONNX Runtime's CUDA provider "
            "(default: off)"),
    _one("--trt-cache-dir", "PATH", "folder of cached engines, scales and references (default: the user's "
         "cache folder)"),
    _one("--trt-report-dir", "PATH", "folder in which every run writes a folder of its own "
         "(default: reports)"),
    _switch("--trt-strict", "fail above the expected error, not above the limit (default: off)"),
    _many("--trt-allow", "VERDICT", f"one of {', '.join(ALLOWABLE)}, repeatable: records of this verdict "
          "fail no test (default: none)"),
    _one("--trt-target", "NAME", f"one of {', '.join(TARGETS)}: what models are deployed on, and may be "
         "refused by (default: the spec's, or tensorrt)"),
    _switch("--trt-no-code", "refuse specs that run code: loaders, metrics, network functions, plugins, "
            "finished engines (default: off)"),
    _one("--trt-layer-memory", "BYTES", "memory for intermediate tensors, in bytes or with KiB, MiB, GiB "
         f"(default: {DEFAULT_LAYER_MEMORY})", DEFAULT_LAYER_MEMORY),
    _one("--trt-baseline", "PATH", "results.json, run's folder or folder of runs: fail where accuracy or "
         "latency regressed against it (default: none)"),
    _many("--trt-allow-missing", "GLOB", "model, or case as it is printed, repeatable: what of the baseline "
          "may be gone, renamed or skipped (default: none)"),
    _switch("--trt-search-fp32", "search the nodes that must stay FP32 for every case whose outputs are "
            "precision-limited, and propose them: the one option that adds to a run (default: off)"),
    _switch("--trt-interleave", "measure the baseline's engine, if the cache still has it, in turn with the "
            "new one (default: off)"),
)  # fmt: skip


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
    target: str | None = None

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
            target=_one_of("--trt-target", given["trt_target"], TARGETS) if given["trt_target"] else None,
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
        single = [("--trt-backend", self.backend), ("--trt-provider", self.provider)]
        single += [("--trt-cuda", self.cuda), ("--trt-target", self.target)]
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
