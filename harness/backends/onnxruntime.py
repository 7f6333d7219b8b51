"""ONNX Runtime."""

from __future__ import annotations

from harness.backends.ort_session import OrtEngine, SessionSettings, open_model, run_model

__all__ = ["OrtEngine", "SessionSettings", "open_model", "run_model"]
