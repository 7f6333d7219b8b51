"""TensorRT's errors in the words of who meets them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.backends.tensorrt.log import Message, words

if TYPE_CHECKING:
    from harness.backends.tensorrt.origin import Origin

Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Smallest, usual and largest shape of an input in a profile."""

MEMORY = re.compile(r"out of memory|OutOfMemory|cudaErrorMemoryAllocation|MEM_ALLOC_FAILED", re.I)
PLUGIN = re.compile(r"plugin|IPluginCreator", re.I)
NVRTC = re.compile(r"libnvrtc", re.I)
NO_PLAN = re.compile(r"magic ?tag", re.I)
STALE = re.compile(
    r"version tag|platform specific tag|incompatible|not compatible|expecting (?:compute|library version)"
    r"|different (?:CC|compute)|serializ",
    re.I,
)
ASKED = re.compile(r"(\d+)[ -]bytes?\b|requested size of (\d+)", re.I)


def not_loaded(
    origin: Origin | None, version: str, gpu: str, messages: Sequence[Message], free: int, total: int
) -> str:
    """Why a plan did not load: what it was built by and for, and what is here."""
    if why := mismatch(origin, version, gpu):
        return why
    said = words(messages)
    if MEMORY.search(said):
        return out_of_memory(messages, free, total)
    if PLUGIN.search(said):
        return f"the plan needs a plugin that is not loaded: name its library in build.plugins: {said}"
    if NO_PLAN.search(said):
        return f"it is no plan that {version} reads: another product's, damaged, or no plan at all: {said}"
    if NVRTC.search(said):
        return said
    if STALE.search(said):
        return f"the plan fits another version or GPU than {version} on {gpu or 'no GPU'}: {said}"
    return said


def mismatch(origin: Origin | None, version: str, gpu: str) -> str | None:
    """What differs between the builder of a plan and what would run it; None if nothing does."""
    if origin is None or not origin.version:
        return None
    if origin.version != version:
        return f"the plan was built by {origin.backend} {origin.version}, this is {version}"
    if origin.gpu and gpu and origin.gpu != gpu:
        built_for = f"{origin.gpu} (compute capability {origin.compute_capability})"
        return f"the plan was built on {built_for}, this is {gpu}"
    return None


def out_of_memory(messages: Sequence[Message], free: int, total: int) -> str:
    """Device memory ran out: what was asked for, if TensorRT said so, and what is free."""
    said = words(messages)
    asked = ASKED.search("\n".join(message.text for message in messages))
    wanted = f"asked for {asked[1] or asked[2]} bytes, " if asked else ""
    return f"out of device memory: {wanted}{free} of {total} bytes are free: {said}"


def failed_run(messages: Sequence[Message], free: int, total: int) -> str:
    """Why an execution failed."""
    said = words(messages)
    return out_of_memory(messages, free, total) if MEMORY.search(said) else said


def outside(ranges: Mapping[str, Range], shapes: Mapping[str, tuple[int, ...]], profile: int) -> str | None:
    """Which shapes are outside the ranges of a profile, with the allowed ones; None if none is."""
    wrong = [
        f"input {name!r}: shape {list(shapes[name])} is outside profile {profile}: "
        f"{list(low)} to {list(high)} allowed"
        for name, (low, _, high) in ranges.items()
        if not fits(shapes[name], low, high)
    ]
    return "; ".join(wrong) or None


def fits(shape: Sequence[int], low: Sequence[int], high: Sequence[int]) -> bool:
    """Whether a shape is within a range, axis by axis."""
    return len(shape) == len(low) and all(a <= s <= b for a, s, b in zip(low, shape, high, strict=True))
