"""Build progress through IProgressMonitor, which TensorRT 10.0 and TensorRT-RTX have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.backends.relay import Progress
from harness.backends.tensorrt.callbacks import Callback, keeping
from harness.backends.tensorrt.log import implement

if TYPE_CHECKING:
    import tensorrt as trt


class Monitor(Callback):
    """Passes phases and steps on to a callback; names of phases that are open nest with a slash.

    What the callback raises is kept: it says nothing of the engine, and must not cancel the build.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._steps: dict[str, int] = {}
        self._paths: dict[str, str] = {}

    @keeping(None)
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase begins."""
        parent = self._paths.get(parent_phase) if parent_phase else None
        self._paths[phase_name] = f"{parent}/{phase_name}" if parent else phase_name
        self._steps[phase_name] = num_steps
        self._progress(self._paths[phase_name], 0, num_steps)

    @keeping(True)
    def step_complete(self, phase_name: str, step: int) -> bool:
        """A step is done; True lets the build go on."""
        self._progress(
            self._paths.get(phase_name, phase_name), step + 1, self._steps.get(phase_name, step + 1)
        )
        return True

    @keeping(None)
    def phase_finish(self, phase_name: str) -> None:
        """A phase is over; it may have skipped its last steps."""
        steps = self._steps.pop(phase_name, 1)
        self._progress(self._paths.pop(phase_name, phase_name), steps, steps)


def watch(api: trt.Module, config: trt.IBuilderConfig, progress: Progress) -> Any:
    """Report the progress of what `config` builds; keep the result alive while it builds."""
    monitor = implement(api.IProgressMonitor, Monitor)(progress)
    config.progress_monitor = monitor
    return monitor
