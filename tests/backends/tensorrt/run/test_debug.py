"""Debug tensors of an engine, on doubles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.errors import RunError
from tests.helpers.trt_double import Faults
from tests.helpers.trt_engine import Opener, ramp


@pytest.mark.parametrize("instrumentation", ["debug tensors", "unfused tensors"])
def test_debug_tensors_are_among_the_outputs(opened: Opener, instrumentation: str) -> None:
    with opened() as engine:
        found = engine.listening(["shown_x"], instrumentation).run({"x": ramp(2)})
    assert found.keys() == {"y", "s", "shown_x"}
    np.testing.assert_array_equal(found["shown_x"], ramp(2))


def test_a_debug_tensor_that_is_not_shown_is_missed(opened: Opener) -> None:
    with opened() as engine, pytest.raises(RunError, match=r"did not show \['other'\]"):
        engine.listening(["shown_x", "other"], "debug tensors").run({"x": ramp(2)})


def test_unfused_tensors_are_those_that_fusion_left(opened: Opener) -> None:
    with opened() as engine:
        found = engine.listening(["shown_x", "other"], "unfused tensors").run({"x": ramp(2)})
    assert "other" not in found


REFUSALS = [
    ("set_debug_listener", "debug tensors"),
    ("set_all_tensors_debug_state", "debug tensors"),
    ("unfused_tensors_debug_state", "unfused tensors"),
]


@pytest.mark.parametrize(("call", "instrumentation"), REFUSALS)
def test_a_refused_listener_is_told(opened: Opener, call: str, instrumentation: str) -> None:
    with opened(faults=Faults((call,), "no")) as engine, pytest.raises(RunError, match="TensorRT"):
        engine.listening(["shown_x"], instrumentation).run({"x": ramp(2)})


def test_debug_tensors_share_one_pinned_buffer(opened: Opener) -> None:
    with opened() as engine:
        engine.listening(["shown_x"], "debug tensors").run({"x": ramp(4)})
        device: Any = engine.device
        before = len(device.buffers)
        for rows in (1, 2, 3, 4):
            np.testing.assert_array_equal(engine.run({"x": ramp(rows)})["shown_x"], ramp(rows))
        assert len(device.buffers) == before


def test_unfused_tensors_need_no_marked_ones(opened: Opener) -> None:
    with opened(faults=Faults(("set_all_tensors_debug_state",), "none is marked")) as engine:
        engine.listening(["shown_x"], "unfused tensors").run({"x": ramp(2)})


def test_a_listener_that_fails_fails_the_run(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RunError("copy failed")

    with opened() as engine:
        engine.listening(["shown_x"], "debug tensors")
        engine.run({"x": ramp(1)})
        monkeypatch.setattr("harness.backends.tensorrt.run.debug.Listener._copy", broken)
        with pytest.raises(RunError, match="copy failed"):
            engine.run({"x": ramp(1)})
