"""Open and run a face of a fresh engine once, where a crash of the runtime costs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.onnxruntime.session import OrtEngine, SessionSettings
from harness.backends.onnxruntime.values import zeros
from harness.errors import RunError

if TYPE_CHECKING:
    from harness.spec.model_spec import Shape


@dataclass(frozen=True)
class FaceTrial:
    """What came of one face: why it did not open, why it did not run; empty when well.

    `provider_options` are those that the session says it has.
    """

    not_opened: str = ""
    not_run: str = ""
    nodes_by_provider: Mapping[str, int] = field(default_factory=dict)
    provider_options: Mapping[str, str] = field(default_factory=dict)


def try_face(path: Path, settings: SessionSettings, shapes: Mapping[str, Shape]) -> FaceTrial:
    """Open a face and run it once on zeros of `shapes`; picklable, so that it can run in a child."""
    try:
        engine = OrtEngine.open(path, settings, record_providers=True)
    except RunError as error:
        return FaceTrial(not_opened=str(error))
    with engine:
        providers = Counter(engine.node_providers())
        options = dict(engine.session.get_provider_options().get(settings.provider, {}))
        try:
            engine.run(
                {
                    info.name: zeros(info.dtype, _shape(info.shape, shapes.get(info.name)))
                    for info in engine.inputs
                }
            )
        except RunError as error:
            return FaceTrial(not_run=str(error), nodes_by_provider=providers, provider_options=options)
    return FaceTrial(nodes_by_provider=providers, provider_options=options)


def _shape(declared: tuple[int | None, ...], asked: Shape | None) -> Shape:
    return asked if asked is not None else tuple(1 if size is None else size for size in declared)
