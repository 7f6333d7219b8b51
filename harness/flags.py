"""The command line options of a run, as plain data.

The entry point of pytest reads this file without importing `harness`, which may be another package where it
runs: nothing of the project is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int8+fp16")
"""The words of `harness.precision.Precision`; a test holds both together."""
CUDA_BINDINGS = ("cuda-python", "pycuda")
BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt_rtx")
TARGETS = ("tensorrt", "tensorrt_rtx", "onnxruntime")
EFFORTS = ("quick", "normal", "thorough")
ALLOWABLE = (
    "undecided", "precision-limited", "engine-suspect",
    "reference-limited", "not-deployable", "export-suspect",
)  # fmt: skip
"""Those of `harness.records`, held together by the same test."""
GATES = ("normal", "strict")
DEFAULT_LAYER_MEMORY = "512MiB"


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
    _many("--trt-precision", "NAME", f"one of {', '.join(PRECISIONS)}, repeatable: only these of the "
          "precisions that a spec lists; of a model without a spec, these (default: all)"),
    _one("--trt-data", "FILE", "npz file with an array for each input by name, or npy file for a model of "
         "one input: what inputs are fed, instead of a spec's data (default: the spec's)"),
    _many("--trt-shape", "NAME=SHAPE", "repeatable: shape of an input, as x=1x3x224x224 or, smallest, usual "
          "and largest, x=1x3x224x224:8x3x224x224:16x3x224x224, instead of a spec's profiles (default: the "
          "spec's)"),
    _one("--trt-shapes", "EFFORT", f"one of {', '.join(EFFORTS)}: at how many shapes of a profile outputs "
         "are compared: where all axes grow together; at corners and other kinds of sizes too; at all pairs "
         "of these (default: normal)", "normal"),
    _one("--trt-tolerance", "MRE", "allowed mean relative error, as 1e-3, or limit=5e-3,expected=1e-3,"
         "row=0.1,element=0.5, of every precision (default: the spec's)"),
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
    _one("--trt-gate", "NAME", f"one of {', '.join(GATES)}: whether a baseline of a single run may fail a "
         "latency, although it shows no noise from run to run (default: normal, which warns)", "normal"),
    _switch("--trt-search-fp32", "search the nodes that must stay FP32 for every case whose outputs are "
            "precision-limited, and propose them: the one option that adds to a run (default: off)"),
    _switch("--trt-interleave", "measure the baseline's engine, if the cache still has it, in turn with the "
            "new one (default: off)"),
)  # fmt: skip
SETTINGS: tuple[tuple[str, str, str | None, Any], ...] = (
    ("trt_models", "folders of specs, relative to the ini file (default: suites/models)", "paths", None),
    ("trt_xfails", "file of expected failures (default: suites/xfails.txt)", None, ""),
    ("trt_command", "the command that a failure names instead of pytest's (default: none)", None, ""),
)
"""Ini settings: name, help, type and default as `parser.addini` takes them."""
