"""Parts of a model between tensors that are given and tensors that are wanted, run by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from harness.backends.base import NOTHING, Shapes, Tensors
from harness.backends.onnxruntime.parts import Parts
from harness.backends.onnxruntime.provider import CPU, require_provider
from harness.backends.onnxruntime.room import Room
from harness.backends.onnxruntime.session import (
    FATAL_ONLY,
    ORT_ERRORS,
    OrtEngine,
    SessionSettings,
    session_of,
)
from harness.backends.onnxruntime.values import from_ort, to_ort
from harness.backends.onnxruntime.weights import detach

_RETRIED: tuple[type[Exception], ...] = (*ORT_ERRORS, OSError)


@dataclass(frozen=True)
class SliceOpener:
    """Opens parts of `model`, which is taken apart once for all; it must not change meanwhile."""

    model: ir.Model
    settings: SessionSettings = field(default_factory=SessionSettings)
    room: Room = field(default_factory=Room, init=False, repr=False, compare=False)

    def __call__(
        self, tensors: Sequence[str], given: Tensors = NOTHING, shapes: Shapes = NOTHING, /
    ) -> OrtEngine:
        """An engine that computes `tensors` from the model's inputs and `given` tensors, as far as they help.

        Its inputs are the model's and those given tensors that the computation reads.  Outputs with one of
        `shapes` are overwritten by the next run of an engine of this opener.
        Raises RunError, NotHonouredError.
        """
        require_provider(self.settings.provider)
        part = self.parts.between(given, tensors)
        session = session_of(part.model.SerializeToString(), self.settings, weights=part.values())
        placed = shapes if self.settings.provider == CPU else NOTHING
        return _PartEngine(session, tensors, self.room, placed)

    @cached_property
    def parts(self) -> Parts:
        """The model taken apart."""
        return Parts(detach(self.model))


class _PartEngine(OrtEngine):
    """A session that writes outputs of foretold `shapes` into `room`."""

    def __init__(self, session: Any, fetch: Sequence[str], room: Room, shapes: Shapes) -> None:
        super().__init__(session, fetch)
        self._room, self._shapes = room, shapes

    def run(self, feeds: Tensors, profile: int = 0) -> dict[str, Any]:
        """Outputs by name for one set of feeds.  Raises RunError."""
        if self._shapes and self._session is not None:
            try:
                return self._run_placed(feeds)
            except _RETRIED:  # A shape is not as foretold, feeds are wrong, no memory is left.
                self._room.clear()
        return super().run(feeds, profile)

    def _run_placed(self, feeds: Tensors) -> dict[str, Any]:
        binding, placed = self._session.io_binding(), self._room.arrays(self.outputs, self._shapes)
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, to_ort(array))
        for name in self._names:
            if name in placed:
                binding.bind_ortvalue_output(name, to_ort(placed[name]))
            else:
                binding.bind_output(name)
        options = ort.RunOptions()
        options.log_severity_level = FATAL_ONLY  # What fails here is run again.
        self._session.run_with_iobinding(binding, options)
        found = zip(self._names, binding.get_outputs(), strict=True)
        return {name: placed[name] if name in placed else from_ort(value) for name, value in found}
