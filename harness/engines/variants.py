"""Engines that must answer like a subject's own: built again, or built for one shape alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from harness.engines.engine import BuiltEngine, build
from harness.engines.subject import Subject
from harness.graph.file import clone
from harness.lowering.model import LoweredModel
from harness.precision import Precision
from harness.spec.model_spec import Profile, Shape
from harness.storage.cache import Cache

Shapes = Mapping[str, Shape]


def second_build(subject: Subject, precision: Precision, cache: Cache) -> BuiltEngine:
    """The engine of `precision` built once more, into another cache.  Raises BackendError."""
    return build(subject.source(subject.plan(precision)), subject.backend, cache)


def same_plan(one: BuiltEngine, other: BuiltEngine) -> bool:
    """Whether two builds gave the same bytes to deploy; what is told about a build (JSON) may differ."""
    plans = [
        {
            name: digest
            for name, digest in built.manifest.hashes["files"].items()
            if not name.endswith(".json")
        }
        for built in (one, other)
    ]
    return plans[0] == plans[1]


def static_build(subject: Subject, precision: Precision, profile: Profile, shapes: Shapes) -> BuiltEngine:
    """The engine of `precision` whose inputs have exactly `shapes`.  Raises BackendError."""
    source = subject.source(subject.plan(precision))
    sizes = " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes.values())
    fixed = replace(
        source,
        name=f"{source.name} at {sizes}",
        profiles=(at(profile, shapes),),
        lower=lambda: with_input_shapes(source.lower(), shapes),
    )
    return build(fixed, subject.backend, subject.cache)


def at(profile: Profile, shapes: Shapes) -> Profile:
    """`profile` with `shapes` as its only ones."""
    ends = ("min", "opt", "max")
    ranges = {n: r.model_copy(update=dict.fromkeys(ends, shapes[n])) for n, r in profile.shapes.items()}
    return profile.model_copy(update={"shapes": ranges})


def with_input_shapes(lowered: LoweredModel, shapes: Shapes) -> LoweredModel:
    """The lowered model with static inputs."""
    model = clone(lowered.model)
    for value in model.graph.inputs:
        if (wanted := shapes.get(value.name or "")) is not None:
            value.shape = ir.Shape(wanted)
    return replace(lowered, model=model)
