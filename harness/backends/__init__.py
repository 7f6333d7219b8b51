"""Runtimes: the only place that knows ONNX Runtime, TensorRT or CUDA.

Nothing here judges; importing a room's `base` or `choose` imports no runtime.
"""
