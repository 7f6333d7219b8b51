"""FP32 ONNX + precision plan -> ONNX with the plan in it.

Nothing here runs a model: no runtime, no specs, no data.
"""
