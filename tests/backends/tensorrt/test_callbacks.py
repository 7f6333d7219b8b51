"""What goes wrong in a callback is kept, whatever it is, and told by whoever made the call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.base import CalibrationData
from harness.backends.tensorrt.builder.build import BuildTask, Built, build
from harness.backends.tensorrt.builder.calibrator import Calibrator
from harness.backends.tensorrt.builder.progress import Monitor
from harness.backends.tensorrt.callbacks import Callback, keeping
from harness.backends.tensorrt.run.buffers import Allocator, PortBuffers
from harness.backends.tensorrt.run.debug import Listener
from harness.errors import DataError, HarnessError, RunError
from harness.precision import Precision
from harness.spec.model_spec import BuildSpec
from tests.helpers.tensorrt import SMALL, classifier, rtx, write
from tests.helpers.trt_double import Faults, HostDevice
from tests.helpers.trt_engine import COUNT, Opener, model, ramp


class Odd(Callback):
    @keeping(7)
    def answer(self, error: Exception | None) -> int:
        if error is not None:
            raise error
        return 1


@pytest.mark.parametrize("error", [DataError("d"), KeyError("k"), ZeroDivisionError(), StopIteration()])
def test_the_first_error_is_kept_and_told_once(error: Exception) -> None:
    odd = Odd()
    assert (odd.answer(None), odd.answer(error), odd.answer(RunError("later"))) == (1, 7, 7)
    with pytest.raises(HarnessError) as raised:
        odd.raise_kept()
    assert raised.value is error or type(error).__name__ in str(raised.value)
    odd.raise_kept()


def broken_batches() -> Iterator[dict[str, Any]]:
    yield {"x": np.zeros((1, 3, 8, 8), np.float32)}
    raise ZeroDivisionError("the loader fell over")


def test_a_loader_that_falls_over_is_no_end_of_the_batches() -> None:
    calibrator = Calibrator(CalibrationData("entropy", broken_batches), HostDevice(), {"x": "FLOAT"}, "")
    assert calibrator.get_batch(["x"]) is not None
    assert calibrator.get_batch(["x"]) is None
    assert "ZeroDivisionError: the loader fell over" in str(calibrator.error)


def test_a_loader_that_does_not_start_and_a_cache_that_is_no_text_are_kept() -> None:
    def no_batches() -> Any:
        raise OSError("no such file")

    calibrator = Calibrator(CalibrationData("entropy", no_batches), HostDevice(), {"x": "FLOAT"}, "")
    assert calibrator.get_batch(["x"]) is None
    assert "no such file" in str(calibrator.error)
    other = Calibrator(CalibrationData("entropy", broken_batches), HostDevice(), {"x": "FLOAT"}, "")
    other.write_calibration_cache(b"\xff")
    assert other.error is not None


def test_a_display_that_fails_does_not_cancel_a_build(tmp_path: Path) -> None:
    def fails(*_: object) -> None:
        raise BrokenPipeError("the terminal is gone")

    assert Monitor(fails).step_complete("phase", 0) is True
    from harness.backends.tensorrt.builder.build import Aids

    task = BuildTask(Precision.FP32, (SMALL,), BuildSpec())
    built: Built = build(rtx(), task, write(tmp_path, classifier()), tmp_path / "plan", Aids(fails))
    told = "progress of the build was not told to its end: BrokenPipeError: the terminal is gone (test_callb"
    assert told in built.messages[-1]


def test_an_allocator_keeps_what_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator = Allocator(PortBuffers(HostDevice()))
    monkeypatch.setattr(HostDevice, "allocate", lambda *_: 1 / 0)
    assert allocator.reallocate_output_async("y", 0, 8, 256, 7) == 0
    assert "ZeroDivisionError" in str(allocator.error)


def test_an_allocators_error_fails_a_run_that_tensorrt_calls_good(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Allocator, "notify_shape", keeping(None)(lambda *_: 1 / 0))
    with (
        opened(model(COUNT), Faults(data_dependent=("y",))) as engine,
        pytest.raises(RunError, match="ZeroDivisionError"),
    ):
        engine.run({"x": ramp(2)})


def test_a_listener_that_fails_fails_a_run_that_tensorrt_calls_good(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as engine:
        engine.listening(["shown_x"], "debug tensors").run({"x": ramp(2)})
        monkeypatch.setattr(Listener, "_copy", lambda *_: 1 / 0)
        with pytest.raises(RunError, match="ZeroDivisionError"):
            engine.run({"x": ramp(2)})
        monkeypatch.undo()
        assert "shown_x" in engine.run({"x": ramp(2)})


def test_debug_tensors_come_on_the_stream_that_tensorrt_names(opened: Opener) -> None:
    with opened(faults=Faults(stream=12345)) as engine:
        device: Any = engine.device
        found = engine.listening(["shown_x"], "debug tensors").run({"x": ramp(2)})
    assert 12345 in device.streams
    np.testing.assert_array_equal(found["shown_x"], ramp(2))
