"""Latency of an engine between device buffers, and of the copies, each measured apart from the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from numpy.typing import NDArray

from harness.backends.base import Engine, Tensors
from harness.latency.measure import DeviceTimer, Sampling, measure
from harness.latency.samples import Latency

COPY_SHARE = 0.1
"""How much of the time allowed for runs is spent on each direction of the copies."""
COPY_ROUNDS = 5


class Run(Protocol):
    """One run between memory that is already there; calling it starts it and waits for its end.

    `upload` and `download` copy its inputs and outputs and wait; `enqueue`, for which `prepare` binds memory,
    `start_upload` and `start_download` only start; `nbytes` has the bytes of `upload` and `download`.
    """

    enqueue: Callable[[], object]
    prepare: Callable[[], object]

    def __call__(self) -> None: ...

    def upload(self) -> None: ...

    def download(self) -> None: ...

    def start_upload(self) -> None: ...

    def start_download(self) -> None: ...

    def fetch(self) -> dict[str, NDArray[Any]]: ...

    @property
    def nbytes(self) -> Mapping[str, int]: ...


class OnDevice(Protocol):
    """What an engine offers besides `base.Engine` where it runs between device buffers."""

    def residents(self, feeds: Sequence[Tensors], profile: int = 0) -> Sequence[Run]: ...

    def timer(self) -> DeviceTimer: ...


def on_device(engine: Engine) -> OnDevice | None:
    """The engine, if it runs between device buffers."""
    found: Any = engine
    return found if hasattr(engine, "residents") else None


def device_outputs(engine: OnDevice, feeds: Sequence[Tensors], profile: int) -> list[dict[str, NDArray[Any]]]:
    """What runs between device buffers write, for each feed; the second run of each is as when timed."""
    found = []
    for feed in feeds:
        (run,) = engine.residents([feed], profile)
        run()
        run()
        found.append(run.fetch())
    return found


def device_latencies(
    engine: OnDevice,
    feeds: Sequence[Tensors],
    profile: int,
    sampling: Sampling,
    settings: Mapping[str, Any],
    **options: Any,
) -> dict[str, Latency]:
    """`resident`: runs without copies, with device times; `upload` and `download`: the copies alone.

    Inputs are uploaded once and rotate.  `options` are those of `measure`.
    """
    runs, timer = engine.residents(feeds, profile), engine.timer()
    short = replace(
        sampling,
        rounds=COPY_ROUNDS,
        max_time_s=COPY_SHARE * sampling.max_time_s,
        warmup_time_s=COPY_SHARE * sampling.warmup_time_s,
    )

    def take(what: str, how: Sampling, call: Any, enqueue: Any, prepare: Any = None, **more: Any) -> Latency:
        told = {"settings": {**settings, "copies": what, **more}, **options}
        return measure(call, runs, how, device_timer=timer, enqueue=enqueue, prepare=prepare, **told)

    sizes = runs[0].nbytes
    return {
        "resident": take(
            "none", sampling, lambda run: run(), lambda run: run.enqueue(), lambda run: run.prepare()
        ),
        "upload": take(
            "host to device, pinned, nothing else",
            short,
            lambda run: run.upload(),
            lambda run: run.start_upload(),
            nbytes=sizes["upload"],
        ),
        "download": take(
            "device to host, pinned, nothing else",
            short,
            lambda run: run.download(),
            lambda run: run.start_download(),
            nbytes=sizes["download"],
        ),
    }


def copies(found: Mapping[str, Latency]) -> dict[str, Any] | None:
    """Times in seconds and bytes of both copies; None where none were measured."""
    parts = {name: found[name] for name in ("upload", "download") if name in found}
    return {
        name: {"device_p50_s": part.device_p50_s, "p50_s": part.p50_s, "nbytes": part.settings["nbytes"]}
        for name, part in parts.items()
    } or None
