"""Where a run keeps what its tests need; light, because fixtures that nobody uses are loaded too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.plugin.heartbeat import Heartbeat
    from harness.plugin.run import Run

RUN: pytest.StashKey[Run] = pytest.StashKey()
BEAT: pytest.StashKey[Heartbeat] = pytest.StashKey()
RECORDS: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()


def run_of(config: pytest.Config) -> Run:
    """The run; the hooks that make it load where nothing asked for them before."""
    if RUN not in config.stash:
        import trt_harness_pytest

        trt_harness_pytest.load(config)
    return config.stash[RUN]
