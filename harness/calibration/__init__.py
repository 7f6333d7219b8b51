"""Calibration: how large the activations are that INT8 must represent."""

from harness.calibration.calibrate import Resources, calibrate, calibrate_cached
from harness.calibration.model import DEFAULT_MEMORY_BYTES, Calibration, Choice

__all__ = ["DEFAULT_MEMORY_BYTES", "Calibration", "Choice", "Resources", "calibrate", "calibrate_cached"]
