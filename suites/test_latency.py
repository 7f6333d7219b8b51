"""Latency and throughput at each batch size, of the engine as it would be deployed."""

import pytest

from harness.report.plain import plain


def test_latency(latency_run, point, timed, record):
    """Measured once its own outputs were compared; slower than a baseline only if it is so each time."""
    found = timed(lambda: latency_run.take(point))
    if found is None:
        pytest.skip("pytest-benchmark is off: nothing is timed")
    made = latency_run.judged(point, found)
    record(
        made.verdict,
        profile=made.profile,
        shapes=made.shapes,
        data=plain(made.data),
        manifest=made.manifest,
        warnings=made.warnings,
        message=made.message,
    )
