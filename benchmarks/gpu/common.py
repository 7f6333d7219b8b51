"""What the scripts here share: this checkout on the path, options, where they ran, figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
CUDA = "CUDAExecutionProvider"
PACKAGES = (
    "onnxruntime-gpu", "onnxruntime", "cuda-python", "cuda-bindings", "pycuda", "nvidia-ml-py", "torch",
    "numpy", "onnx-ir", "pytest", "pytest-xdist",
)  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """The environment of a child process: this checkout is on its path, before what was there already."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def plugin() -> list[str]:
    """`-p trt_harness_pytest` unless the package is installed: pytest then loads it by its entry point."""
    installed = any(entry.value == "trt_harness_pytest" for entry in metadata.entry_points(group="pytest11"))
    return [] if installed else ["-p", "trt_harness_pytest"]


def options(text: str | None, **flags: Any) -> argparse.Namespace:
    """The command line: `--out`, `--cache` (a folder as `trt-harness fetch --dir` fills it), `--provider`.

    `flags` are further options: by name, the keywords of add_argument.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="where the figures go (default: nowhere)"
    )
    parser.add_argument(
        "--cache", type=Path, help="folder of fetched models (default: the user's cache folder)"
    )
    parser.add_argument(
        "--provider", default=CUDA, help="for trying the script without a GPU (default: CUDA's)"
    )
    for name, settings in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    found = parser.parse_args()
    if found.cache:
        os.environ["TRT_HARNESS_CACHE"] = str(found.cache.resolve())
    return found


def where() -> dict[str, Any]:
    """Date, machine, GPUs and versions: of the onnxruntime that is imported, whichever is installed."""
    import onnxruntime  # noqa: F401 - its own version is told, not the metadata's

    from harness.backends.cuda.gpu_facts import gpu_facts
    from harness.report.environment import processor, versions

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0)),
        **{name: gpu_facts().get(name, "none") for name in ("gpu", "driver", "compute_capability")},
        "packages": versions(PACKAGES),
    }


def write(path: Path | None, figures: Any) -> None:
    """Keep the figures, NaN and infinities as words."""
    from harness.report.plain import dumps

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(json.loads(dumps(figures)), indent=1) + "\n")


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def here() -> str:
    """One line that says where this runs."""
    found = where()
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return f"{found['date']}  {found['gpu']}, driver {found['driver']}, {found['cpus']} CPUs; {packages}"
