"""Locks between processes: the system's, or a file that exists where it has none."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # It warns of what `SOFT` says, which `trt-harness doctor` tells.
    warnings.simplefilter("ignore", UserWarning)
    from filelock import FileLock, SoftFileLock, Timeout

SOFT = FileLock is SoftFileLock
"""Whether a lock is a file that exists: one that a killed process left must be removed by hand."""

__all__ = ["SOFT", "FileLock", "Timeout"]
