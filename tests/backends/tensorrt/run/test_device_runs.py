"""Runs between device buffers, on doubles of TensorRT and of the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.errors import RunError
from tests.helpers.lowering import model, run
from tests.helpers.trt_double import Faults
from tests.helpers.trt_engine import COUNT, Opener, ramp, relu_and_sum


def test_device_runs_compute_what_runs_do_without_copies(opened: Opener) -> None:
    feeds = [{"x": ramp(3)}, {"x": -ramp(3)}]
    with opened() as engine:
        runs = engine.residents(feeds)
        engine.run({"x": ramp(1)})
        for _ in range(2):
            for run_ in runs:
                run_.prepare()
                run_.enqueue()
                device: Any = run_.device
                assert len(device.queue) == 1  # the engine, and no copies
                device.synchronize(run_.stream)
        for run_, feed in zip(runs, feeds, strict=True):
            for name, value in run(relu_and_sum(), feed).items():
                np.testing.assert_array_equal(run_.fetch()[name], value)
        assert runs[0].nbytes == {"upload": 48, "download": 60}


def test_device_runs_at_other_shapes_follow(opened: Opener) -> None:
    with opened() as engine:
        for rows, index in ((3, 0), (8, 1), (2, 0)):
            (one,) = engine.residents([{"x": ramp(rows)}], index)
            one()
            np.testing.assert_array_equal(one.fetch()["y"], np.maximum(ramp(rows), 0))


def test_device_runs_with_outputs_whose_shape_depends_on_data(opened: Opener) -> None:
    values = (ramp(4), np.zeros((4, 4), np.float32), -ramp(4))
    with opened(model(COUNT), Faults(data_dependent=("y",))) as engine:
        runs = engine.residents([{"x": value} for value in values])
        for run_, value in zip(runs, values, strict=True):
            run_()
            np.testing.assert_array_equal(run_.fetch()["y"], np.argwhere(value))


def test_device_runs_of_one_context_have_one_shape(opened: Opener) -> None:
    with opened() as engine, pytest.raises(RunError, match="shapes of the feeds differ"):
        engine.residents([{"x": ramp(1)}, {"x": ramp(2)}])


def test_a_device_run_that_fails_says_so(opened: Opener) -> None:
    with opened(faults=Faults(("execute_async_v3",), "no")) as engine, pytest.raises(RunError, match="no"):
        engine.residents([{"x": ramp(1)}])


def test_nothing_is_bound_between_the_timed_events(opened: Opener) -> None:
    with opened() as engine:
        runs = engine.residents([{"x": ramp(2)}, {"x": -ramp(2)}])
        context = next(iter(engine._resident_contexts.values()))
        bound: list[str] = []
        context.set_tensor_address = lambda name, _: bound.append(name) or True  # type: ignore[method-assign]
        for run in runs:
            run.prepare()
            assert sorted(bound) == ["s", "x", "y"]
            bound.clear()
            run.enqueue()
            assert bound == []
            run.device.synchronize(run.stream)
        del context
