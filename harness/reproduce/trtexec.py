"""The trtexec command line that builds and times what the harness builds and times, and where it cannot.

trtexec 11 made CUDA graphs, spin waits and no copies its defaults, and strong typing its only way.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.precision import Precision
from harness.spec.model_spec import BuildSpec, Profile, Shape

Release = Literal[10, 11]
MIB = 1 << 20
POOLS = {
    "workspace": "workspace",
    "dla_managed_sram": "dlaSRAM",
    "dla_local_dram": "dlaLocalDRAM",
    "dla_global_dram": "dlaGlobalDRAM",
    "tactic_shared_memory": "tacticSharedMem",
}
COMPATIBILITY = {"ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability"}
FLAGS = {Precision.FP16: ("--fp16",), Precision.BF16: ("--bf16",), Precision.INT8: ("--int8",)}
WEAK_FLAGS = {**FLAGS, Precision.INT8_FP16: ("--int8", "--fp16")}


@dataclass(frozen=True)
class Case:
    """What to build and time: an ONNX file at a precision.

    `dynamic` names the inputs with dynamic axes; `kept` the ONNX nodes that stay FP32; `custom_data` whether
    the spec feeds data other than generated numbers.
    """

    onnx: Path
    engine: Path
    precision: Precision
    profiles: tuple[Profile, ...]
    options: BuildSpec
    dynamic: tuple[str, ...]
    kept: tuple[str, ...] = ()
    custom_data: bool = False


@dataclass(frozen=True)
class Commands:
    """Command lines, one that builds and one for each timed shape; `remarks` say where they differ."""

    build: tuple[str, ...]
    timings: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        lines = [shlex.join(command) for command in (self.build, *self.timings)]
        return "\n".join([*lines, *(f"# {remark}" for remark in self.remarks)])


def commands(case: Case, release: Release, shapes: Sequence[tuple[int, Mapping[str, Shape]]]) -> Commands:
    """The command lines for trtexec 10 or 11; `shapes` are those to time, each with its profile's number."""
    build = ("trtexec", f"--onnx={case.onnx}", f"--saveEngine={case.engine}", *_build(case, release))
    timings = tuple(_timing(case, release, number, shape) for number, shape in shapes)
    return Commands(build, timings, tuple(_remarks(case, release)))


def _build(case: Case, release: Release) -> Iterator[str]:
    yield "--skipInference"
    if case.options.typing == "weak":
        yield from _weak(case)
    elif release == 10:
        yield "--stronglyTyped"
    yield from _profiles(case)
    if not case.options.tf32 and case.precision is not Precision.TF32:
        yield "--noTF32"
    yield from _options(case.options)


def _weak(case: Case) -> Iterator[str]:
    yield from WEAK_FLAGS.get(case.precision, ())
    if case.kept:
        named = ",".join(f"{name}:fp32" for name in case.kept)
        yield from (
            "--precisionConstraints=obey",
            f"--layerPrecisions={named}",
            f"--layerOutputTypes={named}",
        )
    if case.options.calibration_cache:
        yield f"--calib={case.options.calibration_cache}"


def _profiles(case: Case) -> Iterator[str]:
    for number, profile in enumerate(case.profiles if case.dynamic else ()):
        if len(case.profiles) > 1:
            yield f"--profile={number}"
        for end in ("min", "opt", "max"):
            shapes = {name: getattr(profile.shapes[name], end) for name in case.dynamic}
            yield f"--{end}Shapes={shape_list(shapes)}"


def _options(options: BuildSpec) -> Iterator[str]:
    pools = dict(options.memory_pools)
    if options.workspace_bytes is not None:
        pools["workspace"] = options.workspace_bytes
    known = [
        f"{POOLS[name.lower()]}:{size / MIB:g}M" for name, size in pools.items() if name.lower() in POOLS
    ]
    if known:
        yield f"--memPoolSize={','.join(known)}"
    if options.optimization_level is not None:
        yield f"--builderOptimizationLevel={options.optimization_level}"
    if options.hardware_compatibility is not None:
        yield f"--hardwareCompatibilityLevel={COMPATIBILITY[options.hardware_compatibility]}"
    if options.dla_core is not None:
        yield "--allowGPUFallback"
    yield from _runtime(options)
    yield "--profilingVerbosity=detailed"


def _runtime(options: BuildSpec) -> Iterator[str]:
    """What trtexec must be told again where it loads an engine."""
    if options.version_compatible:
        yield "--versionCompatible"
    if options.dla_core is not None:
        yield f"--useDLACore={options.dla_core}"
    yield from (f"--dynamicPlugins={plugin}" for plugin in options.plugins)


def _timing(case: Case, release: Release, number: int, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    command = ["trtexec", f"--loadEngine={case.engine}", *_runtime(case.options)]
    if case.dynamic:
        command.append(f"--shapes={shape_list({name: shapes[name] for name in case.dynamic})}")
    if len(case.profiles) > 1:
        command.append(f"--useProfile={number}")
    if release == 11:
        command += ["--includeDataTransfers", "--noCudaGraph", "--noSpinWait"]
    return tuple(command)


def shape_list(shapes: Mapping[str, Shape]) -> str:
    """Shapes as trtexec takes them: `x:1x3x8x8`; a name with a colon in quotes."""
    quoted = {name: f"'{name}'" if ":" in name else name for name in shapes}
    return ",".join(f"{quoted[name]}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _remarks(case: Case, release: Release) -> Iterator[str]:
    yield "trtexec overlaps copies with the next inference; the harness times one whole call after another"
    if case.custom_data:
        yield "trtexec feeds random numbers; add --loadInputs=NAME:FILE for the spec's data"
    if case.options.typing == "weak" and release == 11:
        yield "TensorRT 11 has no weak typing: this builds with trtexec 10 alone"
    if case.options.typing == "weak" and case.precision.quantized and not case.options.calibration_cache:
        yield "trtexec cannot calibrate on data: without --calib it invents ranges"
    if case.options.typing == "weak" and case.kept:
        yield (
            "--layerPrecisions matches names of layers exactly: layers that the parser adds to a node "
            "(name_1, ...) are not held, where the harness holds them"
        )
    if case.options.typing == "weak" and (mangled := [name for name in case.kept if set(name) & {",", ":"}]):
        yield f"--layerPrecisions cannot take names with a comma or a colon: {mangled}"
    if case.options.compute_capabilities:
        yield "trtexec builds for the GPU that is here: it has no list of compute capabilities"
    unknown = [name for name in case.options.memory_pools if name.lower() not in POOLS]
    if unknown:
        yield f"trtexec has no option for memory pools {', '.join(unknown)}"
    odd = [name for name in case.dynamic if set(name) & {",", "'"}]
    if odd:
        yield f"trtexec cannot take shapes of inputs whose names have a comma or a quote: {odd}"
    if case.options.typing == "strong":
        yield "precisions are in the ONNX file; it was lowered by the harness, with its FP32 nodes fenced"
