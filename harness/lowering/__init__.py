"""FP32 ONNX + precision plan -> ONNX with the plan in it."""

from harness.lowering.model import LoweredModel, LoweringSummary, Ranges

__all__ = ["LoweredModel", "LoweringSummary", "Ranges"]
